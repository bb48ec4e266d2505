"""CIFAR-10 in its binary version, which holds no pickle, as a TFDS builder without TensorFlow.

Importing this module takes seconds, for it imports `tensorflow_datasets`. URL, size and checksum
stand in `checksums.tsv`; they are those that TFDS has for its own CIFAR-10.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from modeledit_jax.data.images.blocks import BLOCK, ImageBlocks, blocks

FOLDER = "cifar-10-batches-bin"
FILES = {
    "train": tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6)),
    "test": (f"{FOLDER}/test_batch.bin",),
}
"""Members of the archive that each split is read from, in this order."""

CLASSES = 10
_SHAPE = (32, 32, 3)
_RECORD = 1 + 32 * 32 * 3  # a label and the pixels
_CURE = "delete it, and it is downloaded again"


def read_records(data: bytes, source: str) -> tuple[UInt8[np.ndarray, "n 32 32 3"], np.ndarray]:
    """Images and labels ``[n]`` of whole records.

    The format is described at the home page of CIFAR-10 (Krizhevsky): records of a label and the
    red, green and blue plane of an image, each 32 rows of 32 bytes.

    Args:
      data: of ``n`` records.
      source: what they are from, for messages.

    Raises:
      ValueError: no whole number of records, or a label that is not 0…9.
    """
    if len(data) % _RECORD:
        raise ValueError(
            f"{source} ends with {len(data) % _RECORD} bytes of a record of {_RECORD}: {_CURE}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    labels = records[:, 0]
    if (labels >= CLASSES).any():
        raise ValueError(f"{source} has the label {labels.max()}, not 0…{CLASSES - 1}: {_CURE}")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def read_members(path: Path, members: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images ``[n, 32, 32, 3]`` and labels ``[n]`` of members, at most `BLOCK` at a time.

    Args:
      path: a gzip-compressed tar archive.
      members: their names, read in this order, whatever that of the archive.

    Raises:
      ValueError: the archive is damaged, lacks a member, or one is not as it must be
        (`read_records`).
    """
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in members:
                yield from _read_member(archive, member, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        about = " ".join(str(error).split())
        raise ValueError(f"{path} is no intact .tar.gz archive ({about}): {_CURE}") from error


def _read_member(
    archive: tarfile.TarFile, member: str, path: Path
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    try:
        file = archive.extractfile(member)
    except KeyError:
        file = None
    if file is None:  # not there, or no regular file
        raise ValueError(f"{path} has no file {member}, it is another archive: {_CURE}")
    empty = True
    while data := file.read(BLOCK * _RECORD):
        empty = False
        yield read_records(data, f"{member} of {path}")
    if empty:
        raise ValueError(f"{member} of {path} is empty: {_CURE}")


class BinaryCifar10(ImageBlocks):
    """CIFAR-10 (Krizhevsky 2009, *Learning multiple layers of features from tiny images*).

    50,000 + 10,000 color images of airplane, automobile, bird, cat, deer, dog, frog, horse, ship
    and truck.
    """

    SHAPE = _SHAPE
    URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        path = dl_manager.download(self.URL)
        return {split: self._generate_examples(path, names) for split, names in FILES.items()}

    def _generate_examples(
        self, path: os.PathLike, members: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        first = 0
        for images, labels in read_members(Path(path), members):
            yield from blocks(images, labels, first)
            first += len(images)
