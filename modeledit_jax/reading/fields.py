"""The fields of a JSON object, each asked for by its type and range."""

from collections.abc import Mapping, Sequence
from typing import Any

REQUIRED: Any = object()
"""In place of a default: the field must be there."""


class Fields:
    """The fields of one object, and where it stands, for messages."""

    def __init__(
        self,
        record: Mapping[str, Any],
        where: str,
        *,
        noun: str = "field",
        cure: str = "remove the record",
    ) -> None:
        """Keeps what messages need.

        Args:
          record: a parsed JSON object.
          where: file and place in it.
          noun: what a field is called in such files.
          cure: what to do apart from adding or correcting a field.
        """
        self._record = record
        self.where = where
        self._noun, self._cure = noun, cure

    def has(self, name: str) -> bool:
        """Whether there is a field of that name."""
        return name in self._record

    def is_blank(self, name: str) -> bool:
        """Whether there is a field of that name whose text is empty."""
        return self._record.get(name) == ""

    def is_null(self, name: str) -> bool:
        """Whether there is no field of that name, or null in it."""
        return self._record.get(name) is None

    def text(self, name: str) -> str:
        """A field that is a text with more than white space; without white space around it.

        Raises:
          ValueError: it is missing, no text, or empty.
        """
        value = self.get(name)
        if isinstance(value, str) and not _is_unicode(value):
            raise self.wrong(name, "a text of whole characters")
        if not _is_text(value):
            raise self.wrong(name, "a text that is not empty")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of at least one such text.

        Raises:
          ValueError: it is missing, no list, empty, or holds anything but texts.
        """
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(map(_is_text, value)):
            raise self.wrong(name, "a list of texts, with at least one")
        return tuple(text.strip() for text in value)

    def choice(self, name: str, options: Sequence[str], default: str = REQUIRED) -> str:
        """A field that is one of ``options``; ``default`` where it is missing.

        Raises:
          ValueError: it is anything else.
        """
        value = self.get(name, default)
        if not isinstance(value, str) or value not in options:
            raise self.wrong(name, f"one of {', '.join(options)}")
        return value

    def flag(self, name: str, default: bool = REQUIRED) -> bool:
        """A field that is true or false; ``default`` where it is missing; null is false.

        Raises:
          ValueError: it is anything else, a text or a number among them.
        """
        value = self.get(name, default)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return bool(value)

    def integer(self, name: str, low: int, high: int, default: int = REQUIRED) -> int:
        """A field that is an integer from ``low`` to ``high``; ``default`` where it is missing.

        Raises:
          ValueError: it is anything else, a float among them.
        """
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(name, f"an integer from {low} to {high}")
        return value

    def number(
        self, name: str, high: int | float, default: float = REQUIRED, *, zero: bool = False
    ) -> float:
        """A field that is a number above 0, or from 0 if ``zero``; ``default`` where it is missing.

        Raises:
          ValueError: it is anything else.
        """
        value = self.get(name, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= high or (value == 0 and not zero):
            least = "from 0" if zero else "above 0 and"
            raise self.wrong(name, f"a number {least} up to {high:g}")
        return float(value)

    def inner(self, name: str) -> "Fields":
        """A field that is an object with fields of its own.

        Raises:
          ValueError: it is missing or no object.
        """
        value = self.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object with fields")
        return self._inside(value, f"{self.where}, {name}")

    def inner_list(self, name: str) -> tuple["Fields", ...]:
        """A field that is a list of at least one object with fields of its own.

        Raises:
          ValueError: it is missing, no list, empty, or holds anything but objects.
        """
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(x, dict) for x in value):
            raise self.wrong(name, "a list of objects with fields, with at least one")
        return tuple(
            self._inside(item, f"{self.where}, {name} {index}") for index, item in enumerate(value)
        )

    def refuse_others(self, known: Sequence[str]) -> None:
        """Raises ValueError if there is a field of another name."""
        if others := [name for name in self._record if name not in known]:
            raise ValueError(
                f"{self.where}: unknown {self._noun} {_shown(others[0])}; known are "
                f"{', '.join(known)}: remove it or {self._cure}"
            )

    def get(self, name: str, default: Any = REQUIRED) -> Any:
        """The value of a field whatever it is; ``default`` where it is missing.

        Raises:
          ValueError: it is missing and there is no default.
        """
        if name not in self._record and default is REQUIRED:
            names = list(self._record)
            more = f" and {len(names) - 12} more" if len(names) > 12 else ""
            raise ValueError(
                f"{self.where}: no {self._noun} {name!r}, it has "
                f"{', '.join(names[:12]) or 'none'}{more}: add the {self._noun} or {self._cure}"
            )
        return self._record.get(name, default)

    def wrong(self, name: str, expected: str) -> ValueError:
        """The error that says what a field is and what it must be."""
        return ValueError(
            f"{self.where}: the {self._noun} {name!r} is {_shown(self._record.get(name))}, it must "
            f"be {expected}: correct the {self._noun} or {self._cure}"
        )

    def _inside(self, record: Mapping[str, Any], where: str) -> "Fields":
        return Fields(record, where, noun=self._noun, cure=self._cure)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_unicode(value)


def _is_unicode(text: str) -> bool:
    """Whether a text can be encoded: JSON can spell half a character (``"\\ud800"``)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str) and not _is_unicode(value) else repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
