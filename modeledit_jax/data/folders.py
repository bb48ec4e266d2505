"""Where data files are looked for, and where what can be made again is kept."""

import os
from pathlib import Path


def default_cache_dir() -> Path:
    """Folder for files that can be made again.

    Returns:
      ``$MODELEDIT_CACHE_DIR`` if set, else ``$XDG_CACHE_HOME/modeledit_jax``, else
      ``~/.cache/modeledit_jax``. The folder need not exist.
    """
    if chosen := os.environ.get("MODELEDIT_CACHE_DIR"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "modeledit_jax"


def default_data_dir() -> Path | None:
    """``$MODELEDIT_DATA_DIR``, the folder of data files put there by hand; None if not set.

    The files of a data set are in its subfolder of that name, under their original names.
    """
    from_environment = os.environ.get("MODELEDIT_DATA_DIR")
    return Path(from_environment).expanduser() if from_environment else None


def where_to_put(folder: str, data_dir: Path | None) -> str:
    """For messages about missing files: the place where they would be found."""
    if data_dir is None:
        return f"a folder {folder}/ and set MODELEDIT_DATA_DIR to its parent"
    return f"{data_dir / folder}, or set MODELEDIT_DATA_DIR to the folder above {folder}/"


def locate(folder: str, name: str, data_dir: Path | None) -> Path:
    """Path of ``<data_dir>/<folder>/<name>``.

    Args:
      folder: of the data set, e.g. ``"counterfact"``.
      name: of a file or folder in it.
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Raises:
      FileNotFoundError: there is nothing of that name.
    """
    data_dir = data_dir or default_data_dir()
    if data_dir is not None and (path := data_dir / folder / name).exists():
        return path
    raise FileNotFoundError(f"no {folder}/{name}: put it into {where_to_put(folder, data_dir)}")
