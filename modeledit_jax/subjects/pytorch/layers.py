"""ATen operators of layers: linear, convolution, normalization, pooling, attention.

Arrays are as in torch, channels first. A linear layer is one product of what it reads with its
matrix (`modeledit_jax.subjects.pytorch.layouts`), and so is a convolution that is unfolded.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.subjects.pytorch.elementwise import Number, safe_softmax
from modeledit_jax.subjects.pytorch.layouts import Kernel, as_kernel, window_kernel
from modeledit_jax.types import Array

Sizes = Sequence[int] | int


def linear(x: Array, weight: Array | Kernel, bias: Array | None = None) -> Array:
    """``x Wᵀ + b``."""
    out = _dense(x, as_kernel(weight, "dense").matrix)
    return out if bias is None else out + bias


def addmm(bias: Array, x: Array, y: Array, beta: Number = 1, alpha: Number = 1) -> Array:
    return _scaled(beta, bias) + _scaled(alpha, jnp.matmul(x, y))


def _scaled(factor: Number, x: Array) -> Array:
    return x if factor == 1 else factor * x


def _dense(x: Float[Array, "... d"], matrix: Float[Array, "d h"]) -> Float[Array, "... h"]:
    """A product that `modeledit_jax.edits.program` knows as that of a dense layer."""
    return jax.lax.dot_general(x, matrix, (((x.ndim - 1,), (0,)), ((), ())))


def convolution(
    x: Array,
    weight: Array | Kernel,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Array:
    """``x [N, C, ...]`` to ``[N, H, ...]``, as ``torch.nn.ConvNd`` and ``ConvTransposeNd`` do."""
    kernel = as_kernel(weight, "transposed" if transposed else "convolution")
    axes = len(kernel.size)
    stride, padding, dilation = (_each(s, axes) for s in (stride, padding, dilation))
    x, ones = jnp.moveaxis(x, 1, -1), (1,) * axes
    if transposed:
        pads = _transposed_padding(kernel.size, padding, _each(output_padding, axes), dilation)
        window = _grouped(jnp.flip(window_kernel(kernel), range(axes)), groups)
        out = _convolve(x, window, ones, pads, stride, dilation, groups)
    elif groups == 1 and (kernel.unfold or kernel.size == ones):
        out = _dense(patches(x, kernel.size, stride, padding, dilation), kernel.matrix)
    else:
        pads = [(pad, pad) for pad in padding]
        out = _convolve(x, window_kernel(kernel), stride, pads, ones, dilation, groups)
    return jnp.moveaxis(out if bias is None else out + bias, -1, 1)


def patches(
    x: Float[Array, "n ... c"],
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Float[Array, "n ... patch"]:
    """Every window of ``x``, flattened in the order row, column, channel."""
    x = jnp.pad(x, ((0, 0), *((pad, pad) for pad in padding), (0, 0)))
    counts = [
        (extent - step * (width - 1) - 1) // move + 1
        for extent, width, move, step in zip(x.shape[1:-1], size, stride, dilation, strict=True)
    ]
    if tuple(size) == tuple(stride) and all(step == 1 for step in dilation):
        return _tiles(x, size, counts)
    starts = product(*(range(0, w * step, step) for w, step in zip(size, dilation, strict=True)))
    windows = []
    for corner in starts:
        ranges = [
            slice(first, first + (count - 1) * move + 1, move)
            for first, count, move in zip(corner, counts, stride, strict=True)
        ]
        windows.append(x[(slice(None), *ranges)])
    return windows[0] if len(windows) == 1 else jnp.concatenate(windows, axis=-1)


def _tiles(x: Array, size: Sequence[int], counts: Sequence[int]) -> Array:
    """Windows that do not overlap: a reshape."""
    axes = len(size)
    x = x[(slice(None), *(slice(c * w) for c, w in zip(counts, size, strict=True)))]
    pairs = [extent for pair in zip(counts, size, strict=True) for extent in pair]
    x = x.reshape(len(x), *pairs, x.shape[-1])
    outer, inner = range(1, 2 * axes, 2), range(2, 2 * axes + 1, 2)
    return x.transpose(0, *outer, *inner, 2 * axes + 1).reshape(len(x), *counts, -1)


def _convolve(
    x: Array,
    window: Float[Array, "..."],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    input_dilation: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    """XLA's convolution of ``x [N, ..., C]`` with ``window [*size, C / groups, H]``."""
    axes = tuple(range(1, x.ndim - 1))
    channels_last = (0, x.ndim - 1, *axes)
    kernel = (x.ndim - 1, x.ndim - 2, *(axis - 1 for axis in axes))
    numbers = jax.lax.ConvDimensionNumbers(channels_last, kernel, channels_last)
    return jax.lax.conv_general_dilated(
        x, window, stride, padding, input_dilation, dilation, numbers, groups
    )


def _transposed_padding(
    size: Sequence[int], padding: Sequence[int], extra: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros around the dilated input of a transposed convolution."""
    reach = [step * (width - 1) for width, step in zip(size, dilation, strict=True)]
    zipped = zip(reach, padding, extra, strict=True)
    return [(far - pad, far - pad + more) for far, pad, more in zipped]


def _grouped(window: Array, groups: int) -> Array:
    """``[*size, C, H / groups]`` of a transposed convolution as ``[*size, C / groups, H]``."""
    *size, inputs, outputs = window.shape
    split = window.reshape(*size, groups, inputs // groups, outputs)
    return jnp.moveaxis(split, -3, -2).reshape(*size, inputs // groups, groups * outputs)


def batch_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    mean: Array,
    var: Array,
    momentum: Number,
    eps: Number,
) -> tuple[Array]:
    """Normalization of channels by the running statistics."""
    del momentum
    scale = jax.lax.rsqrt(var + eps)
    out = (x - _channels(mean, x)) * _channels(scale, x)
    return (_affine(out, weight, bias, by_channel=True),)


def instance_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    training: bool,
    momentum: Number,
    eps: Number,
) -> tuple[Array]:
    """Of ``[1, N · C, ...]``, as torch writes instance normalization."""
    del training, momentum
    axes = (0, *range(2, x.ndim))
    return (_affine(_standardized(x, axes, eps), weight, bias, by_channel=True),)


def layer_norm(
    x: Array, shape: Sequence[int], weight: Array | None, bias: Array | None, eps: Number
) -> tuple[Array]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    return (_affine(_standardized(x, axes, eps), weight, bias),)


def group_norm(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    count: int,
    channels: int,
    positions: int,
    groups: int,
    eps: Number,
) -> tuple[Array]:
    """Normalization of groups of channels of one example."""
    del channels, positions
    apart = _standardized(x.reshape(count, groups, -1), (2,), eps).reshape(x.shape)
    return (_affine(apart, weight, bias, by_channel=True),)


def _standardized(x: Array, axes: tuple[int, ...], eps: Number) -> Array:
    mean = jnp.mean(x, axis=axes, keepdims=True)
    var = jnp.var(x, axis=axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + eps)


def _channels(vector: Array, x: Array) -> Array:
    """One number for each channel, the second axis of ``x``."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _affine(x: Array, weight: Array | None, bias: Array | None, by_channel: bool = False) -> Array:
    """``x · weight + bias``, along the last axes or the channels."""
    if weight is not None:
        x = x * (_channels(weight, x) if by_channel else weight)
    if bias is not None:
        x = x + (_channels(bias, x) if by_channel else bias)
    return x


def _each(sizes: Sizes, axes: int) -> tuple[int, ...]:
    """One number for every spatial axis."""
    given = (sizes,) if isinstance(sizes, int) else tuple(sizes)
    return given * axes if len(given) == 1 else given


def max_pool(
    x: Array,
    size: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, None]:
    """The largest number of every window; where it was is not said."""
    axes = x.ndim - 2
    size, padding, dilation = (_each(s, axes) for s in (size, padding, dilation))
    stride = _each(stride or size, axes)
    far = _padding(x, size, stride, padding, dilation, ceil_mode)
    pads = ((0, 0), (0, 0), *zip(padding, far, strict=True))
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    out = jax.lax.reduce_window(
        x, lowest, jax.lax.max, (1, 1, *size), (1, 1, *stride), pads,
        window_dilation=(1, 1, *dilation),
    )  # fmt: skip
    return out, None


def avg_pool(
    x: Array,
    size: Sizes,
    stride: Sizes = (),
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Array:
    """The mean of every window."""
    axes = x.ndim - 2
    size, padding = _each(size, axes), _each(padding, axes)
    stride = _each(stride or size, axes)
    far = _padding(x, size, stride, padding, (1,) * axes, ceil_mode)
    window = ((1, 1, *size), (1, 1, *stride))
    pads = ((0, 0), (0, 0), *zip(padding, far, strict=True))
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, *window, pads)
    if divisor_override is not None:
        return total / divisor_override
    inside = np.ones((1, 1, *x.shape[2:]))
    if count_include_pad:
        both = zip(padding, far, strict=True)
        inside = np.ones((1, 1, *(n + 2 * p for n, p in zip(x.shape[2:], padding, strict=True))))
        pads = ((0, 0), (0, 0), *((0, end - pad) for pad, end in both))
    # Windows that end behind the padding (ceil_mode) divide by what they have before it.
    return total / jax.lax.reduce_window(jnp.float32(inside), 0.0, jax.lax.add, *window, pads)


def _padding(
    x: Array,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[int, ...]:
    """Padding at the end of every axis; more than at its beginning where windows are completed."""
    far = []
    for extent, width, move, pad, step in zip(
        x.shape[2:], size, stride, padding, dilation, strict=True
    ):
        reach = step * (width - 1) + 1
        free = extent + 2 * pad - reach
        moves = -(-free // move) if ceil_mode else free // move
        if ceil_mode and moves * move >= extent + pad:  # it would begin behind the input
            moves -= 1
        far.append(max(moves * move + reach - extent - pad, pad))
    return tuple(far)


def _bins(extent: int, count: int) -> list[tuple[int, int]]:
    """Beginnings and ends of the windows of adaptive pooling."""
    return [(i * extent // count, -(-(i + 1) * extent // count)) for i in range(count)]


def _pool_axes(x: Array, size: Sizes, reduce: Callable[..., Array]) -> Array:
    counts = _each(size, x.ndim - 2 if isinstance(size, int) else len(size))
    for axis, count in enumerate(counts, start=x.ndim - len(counts)):
        parts = [
            reduce(jax.lax.slice_in_dim(x, first, end, axis=axis), axis=axis, keepdims=True)
            for first, end in _bins(x.shape[axis], count)
        ]
        x = jnp.concatenate(parts, axis=axis)
    return x


def adaptive_avg_pool(x: Array, size: Sizes) -> Array:
    """Means of so many windows along each of the last axes."""
    return _pool_axes(x, size, jnp.mean)


def adaptive_max_pool(x: Array, size: Sizes) -> tuple[Array, None]:
    return _pool_axes(x, size, jnp.max), None


def attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: Number = 0.0,
    is_causal: bool = False,
    *,
    scale: Number | None = None,
    enable_gqa: bool = False,
) -> Array:
    """``softmax(Q Kᵀ · scale + mask) V`` of ``[..., L, E]``; nothing to look at gives zeros."""
    if dropout_p:
        raise ValueError(
            f"attention drops out with probability {dropout_p} in evaluation mode too: make it "
            "depend on self.training"
        )
    if enable_gqa:
        share = query.shape[-3] // key.shape[-3]
        key, value = (jnp.repeat(x, share, axis=-3) for x in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = jnp.matmul(query * scale, jnp.swapaxes(key, -1, -2))
    if is_causal:
        attn_mask = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    if attn_mask is not None:
        is_bool = attn_mask.dtype == jnp.bool_
        scores = jnp.where(attn_mask, scores, -jnp.inf) if is_bool else scores + attn_mask
    return jnp.matmul(safe_softmax(scores, -1), value)


OPERATORS: dict[str, Callable[..., Any]] = {
    "aten.linear.default": linear,
    "aten.addmm.default": addmm,
    "aten.baddbmm.default": addmm,
    **{f"aten.{name}.default": jnp.matmul for name in ("mm", "bmm", "mv", "dot", "matmul")},
    "aten.convolution.default": convolution,
    "aten._native_batch_norm_legit_no_training.default": batch_norm,
    "aten._native_batch_norm_legit.no_stats": instance_norm,
    "aten.native_layer_norm.default": layer_norm,
    "aten.native_group_norm.default": group_norm,
    "aten.max_pool2d_with_indices.default": max_pool,
    "aten.max_pool3d_with_indices.default": max_pool,
    **{f"aten.avg_pool{axes}d.default": avg_pool for axes in (1, 2, 3)},
    **{f"aten._adaptive_avg_pool{axes}d.default": adaptive_avg_pool for axes in (2, 3)},
    "aten.adaptive_max_pool2d.default": adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": adaptive_max_pool,
    "aten.scaled_dot_product_attention.default": attention,
}
