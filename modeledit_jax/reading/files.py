"""Regular files and their text: nothing is opened that reading could wait for, all is UTF-8."""

import codecs
import errno
import os
import stat
from pathlib import Path

_OTHER_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)
_MARKS = (
    ("UTF-32: convert it, e.g. with iconv -f utf-32 -t utf-8",
     (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    ("UTF-16: convert it, e.g. with iconv -f utf-16 -t utf-8",
     (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
    ("compressed by gzip: unpack it", (b"\x1f\x8b",)),
    ("a zip archive: unpack it", (b"PK\x03\x04",)),
)  # fmt: skip
"""How files of other kinds begin; UTF-32's little-endian mark begins with UTF-16's."""


def regular_file(path: str | Path, missing: str = "no file {path}: give the path of one") -> Path:
    """Returns ``path`` as a `Path` if it is a regular file, or a link to one.

    Args:
      path: of the file.
      missing: what to say when there is nothing; ``{path}`` stands for the path.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is a folder, a named pipe or a device, or cannot be looked at or read.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(missing.replace("{path}", str(path))) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _OTHER_KINDS if is_kind(mode)), "a device")
        raise ValueError(f"{path} is {kind}: give the path of a regular file")
    if not os.access(path, os.R_OK):
        raise _unreadable(path, PermissionError(errno.EACCES, ""))
    return path


def read_text(path: str | Path, *, largest: int | None = None) -> str:
    """Reads a text in UTF-8, with or without a byte order mark.

    Args:
      path: of the file.
      largest: number of bytes that such a file cannot have; None: any size.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: it is no regular file, too large, not readable, or not UTF-8.
    """
    path = regular_file(path)
    if largest is not None and (size := path.stat().st_size) > largest:
        raise ValueError(f"{path} has {size:,} bytes, more than {largest:,}: it is another file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    return decode(data, path)


def decode(data: bytes, name: str | Path) -> str:
    """Decodes UTF-8, with or without a byte order mark; ``name`` says whose bytes they are.

    Raises:
      ValueError: it is another encoding.
    """
    if kind := other_kind(data):
        raise ValueError(f"{name} is {kind}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 (byte {error.start}): convert it, or get it again"
        ) from error


def other_kind(data: bytes) -> str | None:
    """What a file is that begins like this, and the cure, if it is no text in UTF-8 by its mark."""
    return next((kind for kind, marks in _MARKS if data.startswith(marks)), None)


def _unreadable(path: Path, error: Exception) -> ValueError:
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return ValueError(f"{str(path)[:200]!r} cannot be read ({reason}): check path and permissions")
