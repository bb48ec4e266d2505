"""A digest of every file of a folder, so that what is read is known to be what was written.

Storage loses and flips bits without a word, and a flipped bit of an array is another number, not
an error.
"""

import hashlib
import json
from pathlib import Path

from modeledit_jax.run.files import atomic_write_text

NAME = "digests.json"
"""Of the file with the digests, in the folder itself."""


class DamagedError(ValueError):
    """What is stored is not what was written."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_digests(folder: Path) -> None:
    """Writes the digest of every file of a folder into it; files added later are damage."""
    digests = {name: file_digest(path) for name, path in _files(folder).items()}
    whole = _digest_of_digests(digests)
    atomic_write_text(folder / NAME, json.dumps({"files": digests, "sha256": whole}, indent=1))


def check_digests(folder: Path) -> None:
    """Compares every file of a folder with its digest.

    Raises:
      DamagedError: a file is missing, another, or was not there; or there are no digests, as in
        folders that an earlier version wrote.
    """
    path = folder / NAME
    if not path.is_file():
        raise DamagedError("it has no digests: its writing was cut off, or an older version did it")
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        digests = stored["files"]
        right = stored["sha256"] == _digest_of_digests(digests)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedError(f"{NAME} cannot be read") from error
    if not right:
        raise DamagedError(f"{NAME} is not what was written")
    files = _files(folder)
    if files.keys() != digests.keys():
        names = ", ".join(sorted(files.keys() ^ digests.keys()))
        raise DamagedError(f"files are missing or were added: {names}")
    for name, file in files.items():
        if file_digest(file) != digests[name]:
            raise DamagedError(f"{name} is not what was written")


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found if path.name != NAME}


def _digest_of_digests(digests: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
