"""The header of a GGUF file: metadata, and where each tensor lies; read without trust in it.

The reader of the `gguf` library walks arrays item by item in objects of NumPy: seven seconds for a
vocabulary, and minutes and gigabytes where a damaged length still fits into the file. Here every
length is checked against the file before anything of that size is made.

Source: the specification, docs/gguf.md of ggml-org/ggml; versions 2 and 3, little-endian.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modeledit_jax.reading.files import regular_file

DAMAGED = "is damaged: download it again ({reason})"

_VERSIONS = (2, 3)
_MOST_ITEMS = 2**22
"""Items of an array, pairs, and tensors: more than any vocabulary has."""
_MOST_DIMENSIONS = 4
_ALIGNMENT = 32
_LARGEST_ALIGNMENT = 2**16
_STRING, _ARRAY, _BOOL, _FLOAT32 = 8, 9, 7, 6
_SCALARS = dict(enumerate(("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?"))) | {
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
"""NumPy's name of each kind of number."""


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies.

    Attributes:
      kind: number of its format, as `gguf.GGMLQuantizationType` counts them.
      shape: of its values, the innermost axis last.
      offset: bytes from the beginning of the file.
    """

    kind: int
    shape: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself; arrays of the metadata are lists."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorPlace]


def read_header(path: str | Path) -> Header:
    """Reads metadata and the places of all tensors.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is no regular file, no GGUF file, one of another version or byte order, or
        damaged; the message names it.
    """
    path = regular_file(path)
    with path.open("rb") as file:
        begin = file.read(8)
        if begin[:4] != b"GGUF":
            raise ValueError(f"{path} is no GGUF file (it begins with {begin[:4]!r}): give another")
        version = int.from_bytes(begin[4:], "little")
        if version not in _VERSIONS:
            order = "big-endian" if version & 0xFFFF == 0 else f"of version {version}"
            raise ValueError(
                f"{path} is a GGUF file {order}; of the versions {_VERSIONS} little-endian ones "
                "are read: convert it again with a current llama.cpp"
            )
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                metadata, tensors = _parse(_Cursor(data, 8))
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} {DAMAGED.replace('{reason}', reason)}") from error
    return Header(path, metadata, tensors)


class _Cursor:
    """Reads on from a place in the file; ValueError where it ends too early."""

    def __init__(self, data: mmap.mmap, place: int):
        self._data, self.place = data, place

    @property
    def left(self) -> int:
        return len(self._data) - self.place

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ValueError(f"it ends in the middle of what begins at byte {self.place}")
        self.place += size
        return self._data[self.place - size : self.place]

    def number(self, kind: str) -> int:
        (value,) = struct.unpack(kind, self.take(struct.calcsize(kind)))
        return value

    def count(self, least: int) -> int:
        """A number of things, of at least so many bytes each, that follow."""
        value = self.number("<Q")
        if value > _MOST_ITEMS or value * least > self.left:
            raise ValueError(f"byte {self.place - 8} promises {value} items, which it cannot hold")
        return value

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8")  # UnicodeDecodeError is a ValueError


def _parse(cursor: _Cursor) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
    tensors, pairs = cursor.count(24), cursor.count(13)
    metadata = _named(cursor, pairs, lambda: _value(cursor, cursor.number("<I")))
    places = _named(cursor, tensors, lambda: _place(cursor))
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if alignment not in [2**power for power in range(_LARGEST_ALIGNMENT.bit_length())]:
        raise ValueError(f"general.alignment is {str(alignment)[:40]}, no power of two")
    begin = -(-cursor.place // alignment) * alignment
    return metadata, {
        name: TensorPlace(place.kind, place.shape, begin + place.offset)
        for name, place in places.items()
    }


def _named(cursor: _Cursor, count: int, read: Callable[[], Any]) -> dict[str, Any]:
    """So many names, each with what ``read`` finds behind it."""
    found: dict[str, Any] = {}
    for _ in range(count):
        name = cursor.text()
        if name in found:
            raise ValueError(f"{name[:80]!r} is there twice")
        found[name] = read()
    return found


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == _STRING:
        return cursor.text()
    if kind == _ARRAY:
        kind = cursor.number("<I")
        least = 8 if kind == _STRING else _itemsize(kind)
        count = cursor.count(least)
        if kind == _STRING:
            return [cursor.text() for _ in range(count)]
        return _numbers(cursor.take(count * least), kind)
    (value,) = _numbers(cursor.take(_itemsize(kind)), kind)
    return value


def _itemsize(kind: int) -> int:
    if kind not in _SCALARS:
        raise ValueError(f"there is a value of the unknown kind {kind}")
    return np.dtype(_SCALARS[kind]).itemsize


def _numbers(data: bytes, kind: int) -> list[Any]:
    values = np.frombuffer(data, np.uint8 if kind == _BOOL else _SCALARS[kind])
    if kind == _BOOL:
        return (values != 0).tolist()
    if kind == _FLOAT32:  # 1e-5, not 9.999999747378752e-06
        return [float(str(value)) for value in values]
    return values.tolist()


def _place(cursor: _Cursor) -> TensorPlace:
    dimensions = cursor.number("<I")
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]
    return TensorPlace(cursor.number("<I"), shape, cursor.number("<Q"))
