"""JSON that a run keeps of its finished parts, with a digest: a flipped bit is another number.

A file holds ``{"value": ..., "sha256": ...}``. What users write by hand has no digest and is read
by `modeledit_jax.reading`.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeledit_jax.processes import agreed, first_does
from modeledit_jax.reading.files import regular_file
from modeledit_jax.run.files import atomic_write_text

REMADE = "is damaged or of an earlier version: delete it, and it is made again"


def write_digested(path: Path, value: Any) -> None:
    """Writes a JSON value and its digest, whole or not at all."""
    text = json.dumps(value)
    content = {"value": json.loads(text), "sha256": _digest(text)}
    atomic_write_text(path, json.dumps(content) + "\n")


def read_digested(path: Path, fault: str = REMADE) -> Any:
    """Reads what `write_digested` wrote; floats keep all their bits.

    Args:
      path: of the file.
      fault: what to say of one that is not what was written, with the cure.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is not what was written.
    """
    try:
        content = json.loads(regular_file(path).read_text(encoding="utf-8"))
        if content.keys() == {"value", "sha256"}:
            value = content["value"]
            if content["sha256"] == _digest(json.dumps(value)):
                return value
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} {fault}") from error
    raise ValueError(f"{path} {fault}")


def cached_json(path: Path, build: Callable[[], Any]) -> Any:
    """A JSON value from the file ``path``, or built and written there.

    It comes from the file either way, so that a resumed run continues with the same value, and
    several processes with that of the first.

    Raises:
      ValueError: the file is damaged.
    """
    if not agreed(path.exists()):
        value = build()
        first_does(lambda: write_digested(path, value))
    return read_digested(path)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
