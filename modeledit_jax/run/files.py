"""Files that are never seen half-written, and finished parts of a run that are kept in them."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeledit_jax.processes import agreed, first_does, is_first


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


def cached_json(path: Path, build: Callable[[], Any]) -> Any:
    """A JSON value from the file ``path``, or built and written there.

    It comes from the file either way, so that a resumed run continues with the same value, and
    several processes with that of the first. Floats keep all their bits.

    Raises:
      ValueError: the file is damaged.
    """
    if not agreed(path.exists()):
        text = json.dumps(build())
        first_does(lambda: atomic_write_text(path, text))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: delete it, and it is made again") from error
