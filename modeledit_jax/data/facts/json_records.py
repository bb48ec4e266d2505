"""Records out of JSON files of published fact collections; what is wrong is said in one line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JsonRecord = dict[str, Any]


def read_records(path: Path) -> list[JsonRecord]:
    """Reads a JSON array of objects, or one object per line if the file's name ends in ``.jsonl``.

    Raises:
      ValueError: the file is not that.
    """
    text = _read_text(path)
    if path.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        records = [_parse(line, f"{path}, line {number}") for number, line in lines]
    else:
        records = _parse(text, str(path))
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


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte {error.start}): convert it, or get it again"
        ) from error


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON ({error}): delete the file, get it again") from error


class Fields:
    """The fields of one record, and where it stands, for messages."""

    def __init__(self, record: JsonRecord, where: str) -> None:
        self._record = record
        self.where = where

    @classmethod
    def of_file(cls, path: Path) -> Iterator["Fields"]:
        """The records of a file in their order; errors are those of `read_records`."""
        for index, record in enumerate(read_records(path)):
            yield cls(record, f"{path}, record {index}")

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self._record

    def is_blank(self, name: str) -> bool:
        """Whether there is a field of that name whose text is empty."""
        return self._record.get(name) == ""

    def text(self, name: str) -> str:
        """A field that is a text with more than white space; without white space around it.

        Raises:
          ValueError: it is missing, no text, or empty.
        """
        value = self._get(name)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(name, "a text that is not empty")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of at least one such text.

        Raises:
          ValueError: it is missing, no list, empty, or holds anything but texts.
        """
        value = self._get(name)
        if (
            not isinstance(value, list)
            or not value
            or not all(isinstance(text, str) and text.strip() for text in value)
        ):
            raise self._wrong(name, "a list of texts, with at least one")
        return tuple(text.strip() for text in value)

    def inner(self, name: str) -> "Fields":
        """A field that is an object with fields of its own.

        Raises:
          ValueError: it is missing or no object.
        """
        value = self._get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object with fields")
        return Fields(value, f"{self.where}, {name}")

    def inner_list(self, name: str) -> tuple["Fields", ...]:
        """A field that is a list of at least one object with fields of its own.

        Raises:
          ValueError: it is missing, no list, empty, or holds anything but objects.
        """
        value = self._get(name)
        if not isinstance(value, list) or not value or not all(isinstance(x, dict) for x in value):
            raise self._wrong(name, "a list of objects with fields, with at least one")
        return tuple(
            Fields(item, f"{self.where}, {name} {index}") for index, item in enumerate(value)
        )

    def _get(self, name: str) -> Any:
        if name not in self._record:
            raise ValueError(
                f"{self.where}: no field {name!r}, it has {', '.join(self._record) or 'none'}: "
                "add the field or remove the record"
            )
        return self._record[name]

    def _wrong(self, name: str, expected: str) -> ValueError:
        return ValueError(
            f"{self.where}: the field {name!r} is {self._record[name]!r}, it must be {expected}: "
            "correct the field or remove the record"
        )
