"""Image classifiers of the shape in Malik 2026: … → 128 → 32 → classes.

The edited layer of the paper is the second fully connected one, ``fc2/kernel`` ``[128, 32]``.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.data.images.datasets import check_layout
from modeledit_jax.subjects.batch_norm import BatchNorm
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
        _check_images(x, "CNN")
        active = _ACTIVATIONS[self.activation]
        for index, width in enumerate(self.channels, start=1):
            x = active(nn.Dense(width, name=f"conv{index}")(unfold(x, size=3, stride=2)))
        return dense_layers(x, self.hidden, self.num_classes, self.activation)


SMALL_IMAGE = 16
"""Side in pixels up to which the stem of a `ResNet` keeps the resolution by default."""

Norm = Literal["group", "batch"]
GROUPS = 8  # of channels that group normalization normalizes together


def _normalize(norm: Norm, x: Array, presence: Array | None, name: str) -> Array:
    """The normalization layer ``name``, as a submodule of the calling module."""
    if norm == "batch":
        return BatchNorm(name=name)(x, presence)
    return nn.GroupNorm(num_groups=GROUPS, epsilon=1e-5, name=name)(x)


class ResidualBlock(nn.Module):
    """``relu(x' + norm2(conv2(relu(norm1(conv1(x))))))``, ``x'`` the input or its projection.

    He, Zhang, Ren & Sun 2016, *Deep residual learning for image recognition* (arXiv 1512.03385),
    figure 2 and, where the shape changes, the shortcut of option B.

    Attributes:
      width: channels put out.
      stride: of ``conv1`` and of the projection ``shortcut``.
      norm: see `ResNet`.
      activation: likewise.
    """

    width: int
    stride: int = 1
    norm: Norm = "group"
    activation: Activation = "relu"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width channels"], presence: Array | None = None
    ) -> Float[Array, "n out_height out_width out_channels"]:
        active = _ACTIVATIONS[self.activation]
        dense = partial(nn.Dense, self.width, use_bias=False)  # the normalization has a bias
        normalize = partial(_normalize, self.norm, presence=presence)
        y = dense(name="conv1")(unfold(x, size=3, stride=self.stride))
        y = active(normalize(y, name="norm1"))
        y = normalize(dense(name="conv2")(unfold(y, size=3, stride=1)), name="norm2")
        if self.stride != 1 or x.shape[-1] != self.width:
            x = dense(name="shortcut")(unfold(x, size=1, stride=self.stride))
            x = normalize(x, name="shortcut_norm")
        return active(x + y)


class ResNet(nn.Module):
    """A small residual network, and then the layers of `MLP`.

    A 3×3 convolution ``stem``, stages of residual blocks ``stage1_block1``, …, each stage but the
    first at half the resolution, the mean over all positions, ``fc1``, ``fc2``, …, ``head``.
    Convolutions are dense layers on unfolded patches, as in `CNN`.

    Attributes:
      num_classes: logits.
      widths: channels of every stage.
      blocks: residual blocks of every stage.
      hidden: widths of the dense layers.
      stem_stride: of the stem; None: 2, or 1 where a side has 16 pixels or fewer. With stride 1 a
        step costs four times as much, and group normalization over so many positions is slow to
        start: the mean over them differs little from image to image.
      norm: ``"group"`` normalization (Wu & He 2018, arXiv 1803.08494; eight groups), or
        ``"batch"``: evaluation mode with folded statistics (`modeledit_jax.subjects.batch_norm`).
      activation: of all layers.

    Raises:
      ValueError: inputs that are no images ``[N, height, width, channels]``, or widths that eight
        groups do not divide.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    hidden: tuple[int, ...] = (128, 32)
    stem_stride: int | None = None
    norm: Norm = "group"
    activation: Activation = "relu"

    @property
    def batch_normalized(self) -> bool:
        """Whether a second argument asks for the training mode (`training_mode`)."""
        return self.norm == "batch"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n height width channels"], presence: Array | None = None
    ) -> Float[Array, "n c"]:
        """Logits.

        Args:
          x: images.
          presence: asks a batch-normalized network for its training mode
            (`modeledit_jax.subjects.batch_norm.BatchNorm`).
        """
        _check_images(x, "ResNet")
        if self.norm == "group" and any(width % GROUPS for width in self.widths):
            raise ValueError(
                f"widths {self.widths} of a ResNet with group normalization must be multiples of "
                f"{GROUPS}: choose others, or norm='batch'"
            )
        stride = self.stem_stride or (1 if min(x.shape[1:3]) <= SMALL_IMAGE else 2)
        patches = unfold(x, size=3, stride=stride)
        x = nn.Dense(self.widths[0], use_bias=False, name="stem")(patches)
        x = _normalize(self.norm, x, presence, "stem_norm")
        x = _ACTIVATIONS[self.activation](x)
        for stage, width in enumerate(self.widths, start=1):
            for block in range(1, self.blocks + 1):
                stride = 2 if stage > 1 and block == 1 else 1
                name = f"stage{stage}_block{block}"
                residual = ResidualBlock(width, stride, self.norm, self.activation, name=name)
                x = residual(x, presence)
        x = x.mean(axis=(1, 2))
        return dense_layers(x, self.hidden, self.num_classes, self.activation)


def _check_images(x: Array, name: str) -> None:
    """Raises ValueError unless ``x`` has the shape of images, channels last."""
    if x.ndim != 4:
        raise ValueError(
            f"a {name} takes images [N, height, width, channels], got {x.shape}: reshape them"
        )
    check_layout(x.shape, "x")


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


_CLASSIFIERS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": MLP,
    "cnn": CNN,
    "resnet": ResNet,
    "resnet-batchnorm": partial(ResNet, norm="batch"),
}


def make_classifier(name: str, num_classes: int) -> nn.Module:
    """Returns the classifier ``"mlp"``, ``"cnn"``, ``"resnet"`` or ``"resnet-batchnorm"``.

    Raises:
      ValueError: unknown name; the message lists the known ones.
    """
    if name not in _CLASSIFIERS:
        raise ValueError(f"unknown subject {name!r}; choose one of {', '.join(_CLASSIFIERS)}")
    return _CLASSIFIERS[name](num_classes)
