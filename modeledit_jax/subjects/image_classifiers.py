"""Image classifiers of the shape in Malik 2026: … → 128 → 32 → classes.

The edited layer of the paper is the second fully connected one, ``fc2/kernel`` ``[128, 32]``.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.data.images.datasets import check_layout
from modeledit_jax.types import Array

Activation = Literal["relu", "gelu", "tanh"]
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": nn.relu,
    "gelu": nn.gelu,
    "tanh": nn.tanh,
}


def dense_layers(
    x: Array, hidden: tuple[int, ...], num_classes: int, activation: Activation = "relu"
) -> Array:
    """``fc1`` … ``fcK`` and ``head``, as submodules of the calling module."""
    x = x.reshape((x.shape[0], -1))
    for index, width in enumerate(hidden, start=1):
        x = _ACTIVATIONS[activation](nn.Dense(width, name=f"fc{index}")(x))
    return nn.Dense(num_classes, name="head")(x)


class MLP(nn.Module):
    """Fully connected network on flattened images; layers ``fc1``, ``fc2``, …, ``head``."""

    num_classes: int = 10
    hidden: tuple[int, ...] = (128, 32)
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."]) -> Float[Array, "n c"]:
        return dense_layers(x, self.hidden, self.num_classes, self.activation)


class CNN(nn.Module):
    """Strided 3×3 convolutions ``conv1``, ``conv2``, … and then the layers of `MLP`.

    A convolution is written as a dense layer on unfolded patches: one GEMM, which XLA runs about
    four times faster on CPU than its convolution, and which stays one GEMM under `jax.vmap` over
    seeds, where a convolution turns into slow feature groups.
    """

    num_classes: int = 10
    channels: tuple[int, ...] = (16, 32)
    hidden: tuple[int, ...] = (128, 32)
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "n height width channels"]) -> Float[Array, "n c"]:
        if x.ndim != 4:
            raise ValueError(
                f"a CNN takes images [N, height, width, channels], got {x.shape}: reshape them"
            )
        check_layout(x.shape, "x")
        active = _ACTIVATIONS[self.activation]
        for index, width in enumerate(self.channels, start=1):
            x = active(nn.Dense(width, name=f"conv{index}")(unfold(x, size=3, stride=2)))
        return dense_layers(x, self.hidden, self.num_classes, self.activation)


def unfold(
    x: Float[Array, "n height width channels"], *, size: int, stride: int
) -> Float[Array, "n out_height out_width patch"]:
    """Returns every ``size × size`` patch, flattened, with zero padding as in ``"SAME"``.

    Patch entries are ordered row, column, channel: a convolution kernel
    ``[size, size, channels, out]`` reshaped to ``[size·size·channels, out]`` gives the same result.
    """
    pads, counts = [], []
    for extent in x.shape[1:3]:
        count = -(-extent // stride)
        pad = max((count - 1) * stride + size - extent, 0)
        counts.append((count - 1) * stride + 1)
        pads.append((pad // 2, pad - pad // 2))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    return jnp.concatenate(
        [
            x[:, row : row + counts[0] : stride, column : column + counts[1] : stride]
            for row in range(size)
            for column in range(size)
        ],
        axis=-1,
    )


_CLASSIFIERS: dict[str, Callable[[int], nn.Module]] = {"mlp": MLP, "cnn": CNN}


def make_classifier(name: str, num_classes: int) -> nn.Module:
    """Returns the classifier ``"mlp"`` or ``"cnn"``.

    Raises:
      ValueError: unknown name; the message lists the known ones.
    """
    if name not in _CLASSIFIERS:
        raise ValueError(f"unknown subject {name!r}; choose one of {', '.join(_CLASSIFIERS)}")
    return _CLASSIFIERS[name](num_classes)
