"""Pytrees on disk through Orbax: a content-addressed cache, and the checkpoints of a search.

Orbax writes a checkpoint under a temporary name and renames it when it is whole, so a folder with
a final name is never half-written; whatever a kill left under a temporary name is ignored.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from modeledit_jax.types import Params, PyTree


def fingerprint(content: Mapping[str, Any]) -> str:
    """Returns a hex digest of a JSON-like mapping, the same in every process."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def save_tree(path: Path, tree: PyTree) -> None:
    """Writes a pytree of arrays to the folder ``path``, whole or not at all."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), tree, force=True)


def load_tree(path: Path, like: PyTree | None = None) -> PyTree:
    """Reads a pytree written by `save_tree`.

    Args:
      path: its folder.
      like: a pytree of the structure to return (shapes and dtypes suffice); None: nested
        dictionaries of NumPy arrays.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: the folder holds something else than ``like``, or is damaged.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        if like is None:
            # Onto the host: a saved sharding may name devices that this machine lacks.
            with ocp.PyTreeCheckpointer() as checkpointer:
                return checkpointer.restore(
                    path.absolute(), restore_args=_as_numpy(checkpointer, path.absolute())
                )
        _check_shapes(path.absolute(), like)
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path.absolute(), jax.eval_shape(lambda: like))
    except Exception as error:
        raise ValueError(
            f"the checkpoint at {path} is damaged or of another configuration; delete that folder "
            f"to start afresh ({type(error).__name__})"
        ) from error


def _check_shapes(path: Path, like: PyTree) -> None:
    """Raises ValueError unless the checkpoint has the leaves of ``like``, in their shapes.

    Orbax itself does not compare the shapes of NumPy arrays, and complains about the others when
    it is in the middle of reading.
    """
    with ocp.StandardCheckpointer() as checkpointer:
        stored = checkpointer.metadata(path).item_metadata.tree
    if _shapes(stored) != _shapes(like):
        raise ValueError("the leaves or their shapes differ")


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    def shape(leaf: Any) -> tuple[int, ...]:
        is_key = jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)
        return jax.eval_shape(jax.random.key_data, leaf).shape if is_key else np.shape(leaf)

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): shape(x) for path, x in leaves}


def _as_numpy(checkpointer: ocp.PyTreeCheckpointer, path: Path) -> PyTree:
    metadata = checkpointer.metadata(path).item_metadata.tree
    return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)


def load_params(path: str | Path) -> Params:
    """Reads edited weights, as nested dictionaries of NumPy arrays: ``apply(params, x)``."""
    return load_tree(Path(path))


def cached_tree(folder: Path, key: Mapping[str, Any], build: Callable[[], PyTree]) -> PyTree:
    """Returns ``build()``, computed once for every content of ``key``.

    Args:
      folder: of the cache.
      key: everything the result depends on: configuration, seeds, fingerprint of the data.
      build: makes the pytree; it has to be a nested dictionary of arrays.

    Returns:
      Nested dictionaries of NumPy arrays. A damaged entry is built again.
    """
    path = folder / fingerprint(key)
    if path.is_dir():
        try:
            return load_tree(path)
        except ValueError:
            shutil.rmtree(path)
    tree = jax.device_get(build())
    folder.mkdir(parents=True, exist_ok=True)
    save_tree(path, tree)
    return tree


class Checkpoints:
    """The checkpoints of one search: the newest whole one is what a resumed run starts from."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, tree: PyTree) -> None:
        """Writes ``tree`` as the state after ``step`` updates."""
        self._manager.save(step, args=ocp.args.StandardSave(tree), force=True)

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Returns ``(step, tree)`` of the newest checkpoint, or None where there is none.

        Raises:
          ValueError: the checkpoint does not have the structure of ``like``.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        try:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
            _check_shapes(Path(self._manager.directory) / str(step) / "default", like)
            return step, self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:
            raise ValueError(
                f"the checkpoint in {self._manager.directory} is damaged or of another "
                "configuration; choose another --run-dir, or delete that folder to start afresh "
                f"({type(error).__name__})"
            ) from error

    def close(self) -> None:
        """Releases what Orbax holds."""
        self._manager.close()
