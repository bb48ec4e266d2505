"""One process at a time in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NAME = ".lock"
"""Of the file that is locked, in the folder itself; the system unlocks it when a process ends."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder that exists for this process.

    Raises:
      ValueError: another process holds it.
      OSError: the folder cannot be written.
    """
    lock = FileLock(folder / NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"another process is at work in {folder}: wait for its end, or choose another --run-dir"
        ) from error
    try:
        yield
    finally:
        lock.release()
