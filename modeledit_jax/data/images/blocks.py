"""What the builders of published images share: examples are blocks of consecutive images.

Importing this module takes seconds, for it imports `tensorflow_datasets`.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from modeledit_jax.data.published import PublishedBuilder

BLOCK = 1_000
"""Images of a record: one for each image takes TFDS twenty seconds."""

Block = dict[str, np.ndarray]
"""``images`` [n, height, width, channels] and ``labels`` [n], both uint8."""


class ImageBlocks(PublishedBuilder):
    """Images of one shape with labels 0…9, in the order of the original files."""

    SHAPE: ClassVar[tuple[int, int, int]]
    """Height, width and channels."""

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "images": tfds.features.Tensor(
                        shape=(None, *self.SHAPE), dtype=np.uint8, encoding="bytes"
                    ),
                    "labels": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
                }
            ),
            homepage=self.HOMEPAGE,
            disable_shuffling=True,  # images keep the order of the original file
        )


def blocks(
    images: UInt8[np.ndarray, "n height width channels"],
    labels: UInt8[np.ndarray, " n"],
    first: int = 0,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Examples of TFDS with their keys, the numbers of their first images.

    Args:
      images, labels: of the examples.
      first: number of the first image.
    """
    for begin in range(0, len(images), BLOCK):
        rows = slice(begin, begin + BLOCK)
        yield first + begin, {"images": images[rows], "labels": labels[rows]}
