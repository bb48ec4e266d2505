"""Labeled comments out of CSV files; what is wrong with a file is said in one line.

Rows without a label or annotation are left out and counted; everything else that is not as it must
be is an error that names file and line.
"""

import csv
import gzip
import io
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float, Float32, Int32

from modeledit_jax.data.folders import where_to_put
from modeledit_jax.reading.archives import archive_errors
from modeledit_jax.reading.files import other_kind, regular_file

KAGGLE = "https://www.kaggle.com/c/jigsaw-toxic-comment-classification-challenge/data"
_GZIP = b"\x1f\x8b"
"""How compressed files begin."""

_NAMED_LABELS = {"true": 1.0, "false": 0.0, "bad": 1.0, "not_bad": 0.0}


@dataclass(frozen=True, eq=False)
class RawComments:
    """Labeled comments in the order of their file."""

    source: str  # where from, for messages
    ids: list[str]
    texts: list[str]
    label: Int32[np.ndarray, " n"]  # 1 = toxic
    identities: Float32[np.ndarray, "n i"] | None  # annotated, 0 or 1; None: find them in the text
    notes: tuple[str, ...]  # what was left out


@dataclass(frozen=True)
class CsvFile:
    """A file of separated values, as it is, compressed, or inside an archive."""

    name: str
    open: Callable[[], IO[bytes] | gzip.GzipFile]
    delimiter: str = ","

    @classmethod
    def on_disk(cls, path: Path, delimiter: str = ",") -> "CsvFile":
        """A file, gzip-compressed if its name says so or it begins as one.

        Args:
          path: of the file.
          delimiter: between values.

        Raises:
          FileNotFoundError: there is nothing of that name.
          ValueError: it is a folder, a named pipe or a device.
        """
        regular_file(path)
        if path.suffix == ".gz" or _begins(path, _GZIP):
            return cls(str(path), lambda: gzip.open(path, "rb"), delimiter)
        return cls(str(path), lambda: path.open("rb"), delimiter)

    @classmethod
    def in_zip(cls, path: Path, member: str) -> "CsvFile":
        """A member of a zip archive.

        Raises:
          ValueError: the file is no zip archive, or lacks the member.
        """
        with archive_errors(path), zipfile.ZipFile(regular_file(path)) as archive:
            members = archive.namelist()
        if member not in members:
            raise ValueError(f"{path} has no {member}, it holds {_listed(members)}")
        return cls(f"{path}/{member}", lambda: zipfile.ZipFile(path).open(member))


def _listed(names: Sequence[str]) -> str:
    """Names out of a file on one line, not more than a screen can show."""
    listed = " ".join(", ".join(names[:40]).split())
    return f"{listed[:400]}…" if len(names) > 40 or len(listed) > 400 else listed or "none"


def read_rows(file: CsvFile, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Reads some columns of a CSV file with a header (RFC 4180, UTF-8 with or without mark).

    Yields:
      For every row, where it ends (file and line, for messages) and its values of ``columns``.

    Raises:
      ValueError: the file is cut off, not UTF-8, not well-formed, or lacks a column.
    """
    with archive_errors(file.name):
        yield from _rows(file, columns)


def _rows(file: CsvFile, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    number = 0
    try:
        with file.open() as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True, delimiter=file.delimiter)
            header = next(reader, [])
            if missing := [column for column in columns if column not in header]:
                raise ValueError(
                    f"{file.name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
                    f"it has {_listed(header)}: rename or add"
                )
            if twice := [column for column in columns if header.count(column) > 1]:
                raise ValueError(
                    f"{file.name} has the column {twice[0]} {header.count(twice[0])} times: keep "
                    "one of them"
                )
            places = [header.index(column) for column in columns]
            for row in reader:
                number = reader.line_num
                if row and len(row) != len(header):
                    raise ValueError(
                        f"{file.name}, line {number}: {len(row)} values, the header has "
                        f"{len(header)}: quote the text, or get the file again"
                    )
                if row:
                    yield f"{file.name}, line {number}", [row[place] for place in places]
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(file)) from error
    except csv.Error as error:
        raise ValueError(
            f"{file.name}, after line {number}: {error}: close the quotes, or get the file again"
        ) from error


def _begins(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark


def _not_utf8(file: CsvFile) -> str:
    """What to say of a file of another kind, which its first bytes tell, or of the first line."""
    number = 0
    with file.open() as binary:
        for number, line in enumerate(binary, 1):
            if number == 1 and (kind := other_kind(line)):
                return f"{file.name} is {kind}"
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
    return (
        f"{file.name}, line {number} is not UTF-8: convert the file, e.g. with "
        "iconv -f latin1 -t utf-8"
    )


def parse_fraction(value: str, where: str, column: str) -> float:
    """A label or annotation as a number in 0…1; NaN where there is none.

    Reads also ``True``, ``False`` and the ``BAD``, ``NOT_BAD`` of Dixon's templates.

    Raises:
      ValueError: anything else, e.g. the −1 of Kaggle's rows that were never scored.
    """
    text = value.strip().lower()
    if not text:
        return math.nan
    try:
        number = _NAMED_LABELS[text] if text in _NAMED_LABELS else float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(
            f"{where}: {column} is {value!r}, it must be in 0…1: correct it, or empty the cell to "
            "leave the row out"
        )
    return number


def labeled(
    source: str,
    ids: list[str],
    texts: list[str],
    toxicity: Float[np.ndarray, " n"],
    identities: Float32[np.ndarray, "n i"] | None = None,
    notes: tuple[str, ...] = (),
) -> RawComments:
    """Keeps the rows that have a label; label and identities are 1 from one half upwards.

    Args:
      source: for messages.
      ids, texts, toxicity: of every row; toxicity in 0…1, NaN: not labeled.
      identities: of every row, the fraction of annotators who saw each identity mentioned.
      notes: what was left out before.

    Raises:
      ValueError: no row has a label.
    """
    kept = np.flatnonzero(~np.isnan(toxicity))
    if len(kept) == 0:
        raise ValueError(f"{source} has no labeled row among {len(ids)}: use a labeled file")
    if unlabeled := len(ids) - len(kept):
        notes = (*notes, f"{unlabeled} of {len(ids)} rows without a label left out")
    return RawComments(
        source=source,
        ids=[ids[index] for index in kept],
        texts=[texts[index] for index in kept],
        label=(toxicity[kept] >= 0.5).astype(np.int32),
        identities=None if identities is None else (identities[kept] >= 0.5).astype(np.float32),
        notes=notes,
    )


def read_labeled(file: CsvFile, columns: tuple[str, str, str]) -> RawComments:
    """Reads comments whose columns id, text and label have the given names.

    Raises:
      ValueError: see `read_rows`, `parse_fraction` and `labeled`.
    """
    ids: list[str] = []
    texts: list[str] = []
    toxicity: list[float] = []
    for where, (identifier, text, label) in read_rows(file, columns):
        ids.append(identifier)
        texts.append(text)
        toxicity.append(parse_fraction(label, where, columns[2]))
    return labeled(file.name, ids, texts, np.array(toxicity, float))


def read_jigsaw(data_dir: Path | None) -> RawComments:
    """Reads ``jigsaw/train.csv`` or ``train.csv.gz`` of the Jigsaw Toxic Comment competition.

    Columns ``id``, ``comment_text`` and ``toxic`` are read, further label columns are not.

    Raises:
      FileNotFoundError: neither is there; Kaggle asks for a login, so there is no download.
      ValueError: see `read_labeled`.
    """
    folder = data_dir / "jigsaw" if data_dir else None
    for name in ("train.csv", "train.csv.gz"):
        if folder and (folder / name).exists():
            return read_labeled(CsvFile.on_disk(folder / name), ("id", "comment_text", "toxic"))
    place = where_to_put("jigsaw", data_dir)
    raise FileNotFoundError(f"no train.csv or train.csv.gz: put the file of {KAGGLE} into {place}")
