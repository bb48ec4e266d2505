"""JSON (RFC 8259) as users write it: no NaN, no key twice, no nesting without end."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modeledit_jax.reading.files import read_text

LARGEST_DESCRIPTION = 2**27
"""Bytes that no description of a model or of a run has."""

NOT_JSON = "is not JSON ({reason}): correct it"

_KINDS: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def parse_json(text: str, where: str, fault: str = NOT_JSON) -> Any:
    """Parses one JSON value.

    Args:
      text: of the value.
      where: file and line, for messages.
      fault: what to say of a text that is none, with the cure; ``{reason}`` stands for the reason.

    Raises:
      ValueError: the text is no JSON, holds NaN, an infinite number or a key twice, or is nested
        too deeply to be read.
    """
    infinite: list[str] = []

    def number(token: str) -> float:
        if not math.isfinite(value := float(token)):
            infinite.append(token)
        return value

    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=number, parse_float=number
        )
        if infinite:  # in a list; what is in an object has been refused by name
            raise ValueError(f"{infinite[0][:40]} is no finite number")
        return value
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{where} {fault.replace('{reason}', reason)}")


def read_object(path: str | Path, fault: str = NOT_JSON) -> dict[str, Any]:
    """Reads a file that holds one JSON object, such as a ``config.json``.

    Args:
      path: of the file.
      fault: see `parse_json`.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is no regular file of UTF-8, or as `parse_json`.
    """
    content = parse_json(read_text(path, largest=LARGEST_DESCRIPTION), str(path), fault)
    return as_object(content, str(path), fault)


def as_object(content: Any, where: str, fault: str = NOT_JSON) -> dict[str, Any]:
    """Returns a parsed value that is an object; ValueError if it is anything else."""
    if not isinstance(content, dict):
        reason = f"it holds {_KINDS[type(content)]}, not an object"
        raise ValueError(f"{where} {fault.replace('{reason}', reason)}")
    return content


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    for name, value in pairs:
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name[:80]!r} is {value}, which is no finite number")
    return content
