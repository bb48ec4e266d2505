"""Records out of JSON files of published fact collections; what is wrong is said in one line."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.files import read_text
from modeledit_jax.reading.json_text import parse_json

JsonRecord = dict[str, Any]

_FAULT = "is not JSON ({reason}): delete the file, get it again"


def read_records(path: Path) -> list[JsonRecord]:
    """Reads a JSON array of objects, or one object per line if the file's name ends in ``.jsonl``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not that.
    """
    text = read_text(path)
    if path.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [parse_json(line, f"{path}, line {number}", _FAULT) for number, line in lines]
    else:
        records = parse_json(text, str(path), _FAULT)
    if not isinstance(records, list) or not records:
        found = type(records).__name__ if records else "nothing"
        raise ValueError(f"{path} must hold a list of records, it holds {found}: get it again")
    for index, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, record {index} is a {type(record).__name__}, not an object with fields: "
                "correct or remove it"
            )
    return records


def fields_of_file(path: Path) -> Iterator[Fields]:
    """The records of a file in their order; errors are those of `read_records`."""
    for index, record in enumerate(read_records(path)):
        yield Fields(record, f"{path}, record {index}")
