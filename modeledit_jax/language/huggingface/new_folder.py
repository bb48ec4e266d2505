"""A folder that is never seen half-written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """Fills a folder beside ``folder``, which takes its name when all is written.

    After an error nothing is left; where the process is killed, a hidden folder ``.….partial`` is.

    Args:
      folder: to create; it may exist if it is empty.

    Yields:
      The folder to write into.

    Raises:
      FileExistsError: ``folder`` is not empty, or a file.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty; choose another folder or delete it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        yield partial
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial)
        raise
