"""Compressed files and archives: whatever is wrong with one is said in one line."""

import errno
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BROKEN = (
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,  # zipfile: no such member
    OverflowError,
    RuntimeError,  # zipfile: an encrypted member, or a compression that it does not know
)


@contextmanager
def archive_errors(name: str | Path) -> Iterator[None]:
    """Turns what `gzip`, `lzma` and `zipfile` raise of damaged bytes into a ValueError.

    Args:
      name: of the file, for the message.

    Raises:
      ValueError: instead of any of them.
    """
    try:
        yield
    except (*_BROKEN, UnicodeDecodeError) as error:
        raise ValueError(_broken(name, error)) from error
    except OSError as error:
        # Where a damaged archive says that a member begins before the file does.
        if error.errno != errno.EINVAL:
            raise
        raise ValueError(_broken(name, error)) from error


def _broken(name: str | Path, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{name} is damaged or cut off ({reason}): delete it and get it again"
