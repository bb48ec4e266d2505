"""Labeled images that are drawn by rule: nothing is downloaded, and nobody has to have the files.

Two data sets of ten classes that have nothing to do with each other or with written digits, for
questions about networks of other data than a policy was trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

SIDE = 28
TRAIN, TEST = 25_000, 5_000
CLASSES = 10
_AT_A_TIME = 1_000  # images drawn together, so that their coordinates take some MB alone

Images = Float32[np.ndarray, "n 28 28"]


def draw_shapes(rng: np.random.Generator, labels: np.ndarray) -> Images:
    """Bright figures on a dark ground.

    Place (2 pixels), size, a turn of up to 15 degrees, thickness and contrast are drawn for every
    image, and noise is added (standard deviation 0.1).

    Args:
      rng: source of chance.
      labels: ``[N]``, indices of `FIGURES`.

    Returns:
      Values in 0…1.
    """
    count = len(labels)
    turn = rng.uniform(-np.pi / 12, np.pi / 12, (count, 1, 1))
    size = rng.uniform(6.0, 10.0, (count, 1, 1))
    thickness = rng.uniform(0.15, 0.3, (count, 1, 1))
    middle = (SIDE - 1) / 2 + rng.uniform(-2, 2, (2, count, 1, 1))
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    down, right = (rows - middle[0]) / size, (columns - middle[1]) / size
    x = np.cos(turn) * right + np.sin(turn) * down
    y = np.cos(turn) * down - np.sin(turn) * right
    image = np.zeros((count, SIDE, SIDE))
    for index, figure in enumerate(FIGURES.values()):
        of = labels == index
        inside = figure(x[of], y[of], thickness[of])
        image[of] = 1 / (1 + np.exp(-np.clip(inside * size[of] * 3, -30, 30)))
    contrast = rng.uniform(0.5, 0.9, (count, 1, 1))
    image = 0.5 + contrast * (image - 0.5) + 0.1 * rng.standard_normal(image.shape)
    return image.clip(0, 1).astype(np.float32)


def _disc(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 1 - np.hypot(x, y)


def _ring(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return t - np.abs(np.hypot(x, y) - 0.9 + t)


def _square(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 0.9 - np.maximum(np.abs(x), np.abs(y))


def _frame(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return t - np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.9 + t)


def _triangle(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.minimum(0.7 - y, (y + 1.1 - 2 * np.abs(x)) / np.sqrt(5))


def _plus(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.minimum(t - np.minimum(np.abs(x), np.abs(y)), 1 - np.maximum(np.abs(x), np.abs(y)))


def _times(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return _plus((x + y) / np.sqrt(2), (y - x) / np.sqrt(2), t)


def _lying(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.minimum(t - np.abs(y), 1 - np.abs(x))


def _standing(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return _lying(y, x, t)


def _two_dots(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
    return 0.4 - np.hypot(np.abs(x) - 0.6, y)


FIGURES: Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": _disc,
    "ring": _ring,
    "square": _square,
    "frame": _frame,
    "triangle": _triangle,
    "plus": _plus,
    "times": _times,
    "lying bar": _lying,
    "standing bar": _standing,
    "two dots": _two_dots,
}
"""By class: functions of coordinates and half a line's thickness, in units of the figure's size,
positive inside of the figure."""


def draw_textures(rng: np.random.Generator, labels: np.ndarray) -> Images:
    """Smooth random fields: one for each class, seen through another of each image's own.

    The field of a class (the same for every seed) is shifted by up to 2 pixels and mixed with a
    field of the same smoothness that is drawn for the image, of 0.7 times its spread.

    Args:
      rng: source of chance.
      labels: ``[N]``, 0…9.

    Returns:
      Values in 0…1.
    """
    own = np.random.default_rng(0).standard_normal((CLASSES, SIDE, SIDE))
    fields = _smooth(own)[labels]
    moves = rng.integers(-2, 3, (len(labels), 2))
    places = np.arange(SIDE)
    rows = (places + moves[:, :1]) % SIDE
    columns = (places + moves[:, 1:]) % SIDE
    moved = fields[np.arange(len(labels))[:, None, None], rows[:, :, None], columns[:, None, :]]
    mixed = moved + 0.7 * _smooth(rng.standard_normal(moved.shape))
    return (1 / (1 + np.exp(-mixed))).astype(np.float32)


def _smooth(noise: np.ndarray) -> np.ndarray:
    """Fields ``[N, 28, 28]`` that vary over some 3 pixels, without a border, of variance 1."""
    field = gaussian_filter(noise, (0, 3, 3), mode="wrap")
    return field / field.std(axis=(1, 2), keepdims=True)


@dataclass(frozen=True)
class Generated:
    """A data set that is drawn.

    Attributes:
      draw: ``(rng, labels [N]) -> images [N, 28, 28]`` in 0…1.
      seed: of the training images; those of the test have the next one.
    """

    draw: Callable[[np.random.Generator, np.ndarray], Images]
    seed: int


GENERATED: Mapping[str, Generated] = {
    "shapes": Generated(draw_shapes, 10),
    "textures": Generated(draw_textures, 20),
}


def generate_images(name: str) -> dict[str, np.ndarray]:
    """The arrays ``x``, ``y``, ``x_test`` and ``y_test`` of a data set of `GENERATED`."""
    generated, arrays = GENERATED[name], {}
    for end, count, seed in (("", TRAIN, 0), ("_test", TEST, 1)):
        rng = np.random.default_rng(generated.seed + seed)
        labels = rng.permutation(np.arange(count) % CLASSES)
        parts = np.split(labels, range(_AT_A_TIME, count, _AT_A_TIME))
        arrays[f"x{end}"] = np.concatenate([generated.draw(rng, part) for part in parts])
        arrays[f"y{end}"] = labels
    return arrays
