"""Published images as TFDS builders that need no TensorFlow: MNIST, Fashion-MNIST and CIFAR-10.

The builders that come with `tensorflow_datasets` decode and write through TensorFlow. These write
NumPy arrays as ArrayRecord, under names of their own. Importing this module takes seconds, for it
imports `tensorflow_datasets`; `data.images.datasets` does so only when one of these data sets
is asked for. URLs, sizes and checksums stand in `checksums.tsv`.
"""

import gzip
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from modeledit_jax.data.images.blocks import ImageBlocks, blocks
from modeledit_jax.data.images.cifar import BinaryCifar10
from modeledit_jax.data.published import prepare

_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_UBYTE = 0x08  # the IDX type code of unsigned bytes


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Reads a gzip-compressed IDX file of unsigned bytes.

    The format is described at the MNIST home page (LeCun, Cortes, Burges): two zero bytes, a type
    code, the number of axes, one big-endian uint32 per axis, then the entries in C order.

    Returns:
      Array with the shape that the file's header states.

    Raises:
      ValueError: the file is no gzip file, no IDX file of unsigned bytes, or has the wrong length.
    """
    try:
        data = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is no intact gzip file ({error}): delete it") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _UBYTE:
        raise ValueError(
            f"{path} has magic number 0x{data[:4].hex()}, expected 0x000008 and the number of axes"
        )
    header = 4 + 4 * data[3]
    if len(data) < header:
        raise ValueError(f"{path} is truncated: {len(data)} bytes, its header needs {header}")
    shape = tuple(int(size) for size in np.frombuffer(data[4:header], ">u4"))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data)} bytes, its header {shape} needs {expected}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


class _IdxImages(ImageBlocks):
    """28×28 gray images with labels 0…9, published as four IDX files under `URL`."""

    VERSION = tfds.core.Version("2.0.0")  # 1.0.0: an example was an image
    SHAPE = (28, 28, 1)

    @classmethod
    def urls(cls) -> list[str]:
        """Addresses of the four files."""
        return [cls.URL + file for pair in _FILES.values() for file in pair]

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        paths = dl_manager.download(
            {split: [self.URL + file for file in pair] for split, pair in _FILES.items()}
        )
        return {split: self._generate_examples(*pair) for split, pair in paths.items()}

    def _generate_examples(
        self, image_path: os.PathLike, label_path: os.PathLike
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        images, labels = read_idx(Path(image_path)), read_idx(Path(label_path))
        if len(images) != len(labels):
            raise ValueError(
                f"{image_path} has {len(images)} images, {label_path} {len(labels)} labels"
            )
        yield from blocks(images[..., None], labels)


class IdxMnist(_IdxImages):
    """MNIST handwritten digits (LeCun, Bottou, Bengio & Haffner 1998): 60,000 + 10,000 images."""

    URL = "https://storage.googleapis.com/cvdf-datasets/mnist/"
    HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"


class IdxFashionMnist(_IdxImages):
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017): 60,000 + 10,000 images of clothes."""

    URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"


BUILDERS: dict[str, type[ImageBlocks]] = {
    "mnist": IdxMnist,
    "fashion_mnist": IdxFashionMnist,
    "cifar10": BinaryCifar10,
}
"""Builder classes by the data set names of `modeledit_jax.data.images.datasets.load_images`."""


def read_arrays(
    name: str, *, data_dir: Path | None, cache_dir: Path
) -> dict[str, UInt8[np.ndarray, "..."]]:
    """Prepares a data set with TFDS, once, and reads it whole.

    Args:
      name: a key of `BUILDERS`.
      data_dir: folder whose subfolder `name` may hold the original files, under their own names;
        those present are checked and used, the others are downloaded.
      cache_dir: where TFDS keeps downloads and the prepared records.

    Returns:
      ``x`` [N, height, width, channels], ``y`` [N], ``x_test`` [M, height, width, channels],
      ``y_test`` [M], all uint8, in the order of the original files.

    Raises:
      ValueError: a file does not have the published checksum or content.
      FileNotFoundError: a file is neither on disk nor to be downloaded.
    """
    builder = BUILDERS[name](data_dir=cache_dir / "tfds")
    prepare(builder, name, data_dir)
    arrays = {}
    for split, suffix in (("train", ""), ("test", "_test")):
        blocks = list(builder.as_data_source(split))
        arrays[f"x{suffix}"] = np.concatenate([block["images"] for block in blocks])
        arrays[f"y{suffix}"] = np.concatenate([block["labels"] for block in blocks])
    return arrays
