"""Pytrees on disk through Orbax: whole or not at all, and the checkpoints of a long computation.

Orbax writes under a temporary name of this process alone; digests of all files are added, and the
folder then gets its name in one step. A folder with a final name is therefore never half-written,
and reading it checks that it still is what was written.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.processes import is_first, several
from modeledit_jax.run.digest import DamagedError, check_digests, write_digests
from modeledit_jax.run.files import check_writable
from modeledit_jax.types import Params, PyTree

KEPT = 2
"""Checkpoints of one computation: where the newest is damaged, the one before is whole."""


_METADATA = 2**14
"""Bytes that a saved pytree takes beside its arrays."""

_LARGEST_PROBE = 2**26
"""Bytes: some file systems write every block of a file that is only to be reserved."""


def fingerprint(content: Mapping[str, Any]) -> str:
    """Returns a hex digest of a JSON-like mapping, the same in every process."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def save_tree(path: Path, tree: PyTree, *, replace: bool = True) -> bool:
    """Writes a pytree of arrays to the folder ``path``, whole or not at all.

    Of several processes of one program, the first one writes (`processes`).

    Args:
      path: the folder; folders above it are made.
      tree: the arrays.
      replace: what is there already; False: leave it as it is.

    Returns:
      Whether it was written: False where ``path`` was there and was to be left, and in all
      processes but the first.

    Raises:
      OSError: the disk is full, or the folder cannot be written.
    """
    if not is_first():
        return False
    tree = _on_host(tree)
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    import orbax.checkpoint as ocp  # slow to import

    try:
        check_writable(path.parent)
        _check_room(path.parent, tree)
        with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
            checkpointer.save(temporary, tree)
        write_digests(temporary)
        return _rename(temporary, path, replace)
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0][:200]
        code = getattr(error, "errno", None) or errno.EIO
        raise OSError(code, f"cannot save to {path}: {reason}") from error
    finally:
        for leftover in path.parent.glob(f"{temporary.name}*"):  # Orbax adds a suffix of its own
            shutil.rmtree(leftover, ignore_errors=True)


def _alone() -> Any:
    """Orbax in this process alone: by itself it would wait for all, and not all call it."""
    import orbax.checkpoint as ocp

    if not several():
        return ocp.options.MultiprocessingOptions()
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )


def _numpy_checkpointer() -> Any:
    import orbax.checkpoint as ocp

    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
    return ocp.Checkpointer(handler, multiprocessing_options=_alone())


def _check_room(folder: Path, tree: PyTree) -> None:
    """Raises OSError before Orbax begins: an error amid its threads is many lines long."""
    needed = sum(getattr(leaf, "nbytes", 0) for leaf in jax.tree.leaves(tree))
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if not hasattr(os, "posix_fallocate"):
        return
    probe = folder / f".{uuid.uuid4().hex}.tmp"  # quotas and limits, which free space does not show
    try:
        with probe.open("xb") as file:
            probe.unlink()  # its blocks are held until it is closed, whatever ends this process
            os.posix_fallocate(file.fileno(), 0, min(needed, _LARGEST_PROBE) + _METADATA)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def _rename(temporary: Path, path: Path, replace: bool) -> bool:
    """Gives a folder its name; of several processes that do so at once one is last."""
    while True:
        try:
            os.rename(temporary, path)
            return True
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not replace:
            return False
        remove_tree(path)


def remove_tree(path: Path) -> None:
    """Removes a saved pytree; whoever looks meanwhile sees all of it or nothing."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.rename(path, aside)
    except FileNotFoundError:  # another process was first
        return
    shutil.rmtree(aside, ignore_errors=True)


def load_tree(path: Path, like: PyTree | None = None) -> PyTree:
    """Reads a pytree written by `save_tree`.

    Args:
      path: its folder.
      like: a pytree of the structure to return (shapes and dtypes suffice); None: nested
        dictionaries of NumPy arrays.

    Raises:
      FileNotFoundError: there is no such folder.
      DamagedError: a ValueError: the folder is not what was written.
      ValueError: the folder holds something else than ``like``.
    """
    path = path.absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}")
    import orbax.checkpoint as ocp

    cure = "delete that folder to start afresh"
    try:
        check_digests(path)
    except DamagedError as error:
        raise DamagedError(f"the checkpoint at {path} is damaged: {error}; {cure}") from error
    try:
        if like is None:
            # Onto the host: a saved sharding may name devices that this machine lacks.
            with _numpy_checkpointer() as checkpointer:
                return checkpointer.restore(path, restore_args=_as_numpy(checkpointer, path))
        with ocp.StandardCheckpointer(multiprocessing_options=_alone()) as checkpointer:
            _check_shapes(checkpointer, path, like)
            host = checkpointer.restore(path, jax.tree.map(_room_on_host, like))
    except Exception as error:
        raise ValueError(
            f"the checkpoint at {path} is of another configuration; {cure} ({type(error).__name__})"
        ) from error
    return jax.tree.map(_as_like, like, host)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _key_impl(leaf: Any) -> Any:
    """The generator of keys, of which shape and dtype suffice."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), leaf)
    return found[0]


def _on_host(tree: PyTree) -> PyTree:
    """Arrays of NumPy: where arrays of JAX lie is no part of what is saved. Keys as numbers."""
    plain = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
    return jax.device_get(plain)


def _room_on_host(leaf: Any) -> np.ndarray:
    """An array of the shape and type that `_on_host` gives a leaf; it takes no memory."""
    if _is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return np.broadcast_to(
        np.zeros((), getattr(leaf, "dtype", None) or np.asarray(leaf).dtype), np.shape(leaf)
    )


def _as_like(leaf: Any, host: np.ndarray) -> Any:
    """What was saved, of the kind of ``leaf``, and where that lies."""
    if isinstance(leaf, np.ndarray | np.generic):
        return host
    value = jnp.asarray(host, getattr(host, "dtype", None))
    if _is_key(leaf):
        value = jax.random.wrap_key_data(value, impl=_key_impl(leaf))
    return jax.device_put(value, getattr(leaf, "sharding", None))


def _check_shapes(checkpointer: Any, path: Path, like: PyTree) -> None:
    """Raises ValueError unless the checkpoint has the leaves of ``like``, in their shapes.

    Orbax itself does not compare the shapes of NumPy arrays, and complains about the others when
    it is in the middle of reading.
    """
    stored = checkpointer.metadata(path).item_metadata.tree
    if _shapes(stored) != _shapes(like):
        raise ValueError("the leaves or their shapes differ")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    def shape(leaf: Any) -> tuple[int, ...]:
        return jax.eval_shape(jax.random.key_data, leaf).shape if _is_key(leaf) else np.shape(leaf)

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): shape(x) for path, x in leaves}


def _as_numpy(checkpointer: Any, path: Path) -> PyTree:
    import orbax.checkpoint as ocp

    metadata = checkpointer.metadata(path).item_metadata.tree
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)


def load_params(path: str | Path) -> Params:
    """Reads edited weights, as nested dictionaries of NumPy arrays: ``apply(params, x)``."""
    return load_tree(Path(path))


class Checkpoints:
    """The checkpoints of one computation: a resumed run starts from the newest whole one."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def save(self, step: int, tree: PyTree) -> None:
        """Writes ``tree`` as the state after ``step`` updates; lets go of all but the last two.

        Raises:
          OSError: see `save_tree`.
        """
        if not is_first():
            return
        save_tree(self._folder / str(step), tree)
        for old in self._steps()[:-KEPT]:
            remove_tree(self._folder / str(old))

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns ``(step, tree)`` of the newest whole checkpoint, or None where there is none.

        A damaged one is removed, with a warning.

        Raises:
          ValueError: the checkpoint does not have the structure of ``like``, or all are damaged.
        """
        damage = None
        for step in reversed(self._steps()):
            try:
                return step, load_tree(self._folder / str(step), like)
            except DamagedError as error:
                damage = error
                found = str(error).rpartition(";")[0]
                warnings.warn(f"{found}: the one before is taken", stacklevel=2)
                remove_tree(self._folder / str(step))
            except ValueError as error:
                raise ValueError(_refused(self._folder, "of another configuration")) from error
        if damage is not None:
            raise ValueError(_refused(self._folder, "damaged")) from damage
        return None

    def _steps(self) -> list[int]:
        """In ascending order; what has a temporary name is not one."""
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdecimal())


def _refused(folder: Path, what: str) -> str:
    return (
        f"the checkpoint in {folder} is {what}; choose another --run-dir, or delete that folder "
        "to start afresh"
    )
