"""Files that are never seen half-written."""

import os
import uuid
from pathlib import Path

from modeledit_jax.processes import is_first


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file that is never seen half-written, creating its folder.

    The bytes go to a temporary name in the same folder, reach the disk, and replace ``path`` in
    one step; after a crash or an error the old file stands untouched. Of several processes of one
    program, the first one writes (`processes`).
    """
    if not is_first():
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Makes a folder and writes into it.

    Raises:
      OSError: it cannot be made or written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".{uuid.uuid4().hex}.tmp"
    try:
        probe.write_bytes(b"0")
    finally:
        probe.unlink(missing_ok=True)
