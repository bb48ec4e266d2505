"""Pytrees that are computed once for every content of their arguments and kept in a folder."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from modeledit_jax.run.checkpoint import fingerprint, load_tree, remove_tree, save_tree
from modeledit_jax.run.files import check_writable
from modeledit_jax.types import PyTree


def cached_tree(folder: Path, key: Mapping[str, Any], build: Callable[[], PyTree]) -> PyTree:
    """Returns ``build()``, computed once for every content of ``key``.

    Several processes may ask for the same at once: all get the same arrays. A cache that cannot be
    written costs a warning, never what was built.

    Args:
      folder: of the cache.
      key: everything the result depends on: configuration, seeds, fingerprint of the data.
      build: makes the pytree; it has to be a nested dictionary of arrays.

    Returns:
      Nested dictionaries of NumPy arrays. A damaged entry is built again.
    """
    path = folder / fingerprint(key)
    kept = read_kept(path)
    if kept is not None:
        return kept
    writable_or_warned(folder)  # before the work, so that it is no surprise after it
    tree = jax.device_get(build())
    written = kept_or_warned(path, tree)
    if written is None:
        return tree
    other = None if written else read_kept(path)  # of the process that was first
    return tree if other is None else other


def read_kept(path: Path) -> PyTree | None:
    """An entry, or None; one that cannot be read is removed where that is allowed."""
    try:
        return load_tree(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        warnings.warn(f"{str(error).partition(';')[0]}; it is made again", stacklevel=3)
        with suppress(OSError):
            remove_tree(path)
        return None


def writable_or_warned(folder: Path) -> bool:
    """Whether a cache can be written; a warning says if not."""
    try:
        check_writable(folder)
    except OSError as error:
        _warn(folder, error)
        return False
    return True


def kept_or_warned(path: Path, tree: PyTree) -> bool | None:
    """Keeps an entry, as `save_tree` without ``replace``; None, with a warning, if that fails."""
    try:
        return save_tree(path, tree, replace=False)
    except OSError as error:
        _warn(path.parent, error)
        return None


def _warn(folder: Path, error: OSError) -> None:
    warnings.warn(
        f"the cache {folder} cannot be written ({error.strerror or error}): what is made is not "
        "kept; name another folder with --cache-dir",
        stacklevel=3,
    )
