"""One process at a time in a folder."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NAME = ".lock"
"""Of the file that is locked, in the folder itself; the system unlocks it when a process ends."""


@contextmanager
def locked(
    folder: Path, *, wait: float = 0.0, cure: str = "choose another --run-dir"
) -> Iterator[None]:
    """Holds a folder that exists for this process.

    Args:
      folder: to hold.
      wait: seconds that another process is waited for.
      cure: what helps besides waiting, for the message.

    Raises:
      ValueError: another process holds it.
      OSError: the folder cannot be written.
    """
    lock = FileLock(folder / NAME)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            print(f"waiting for another process in {folder}", file=sys.stderr)
            lock.acquire(timeout=wait)
    except Timeout as error:
        raise ValueError(
            f"another process is at work in {folder}: wait for its end, or {cure}"
        ) from error
    try:
        yield
    finally:
        lock.release()
