"""ATen operators that move, select, join or make numbers, as functions of JAX."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from modeledit_jax.subjects.pytorch.elementwise import Number
from modeledit_jax.types import Array


def expand(x: Array, size: Sequence[int], *, implicit: bool = False) -> Array:
    """Repeats axes of one entry; -1 keeps an axis, and further axes come first."""
    del implicit
    own = (1,) * (len(size) - x.ndim) + x.shape
    wanted = [old if new == -1 else new for new, old in zip(size, own, strict=True)]
    return jnp.broadcast_to(x, wanted)


def squeeze(x: Array, dim: int | Sequence[int] | None = None) -> Array:
    """Drops the axes named that have one entry; without names, all of these."""
    axes = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple(axis for axis in axes if x.shape[axis] == 1))


def cat(parts: Sequence[Array], dim: int = 0) -> Array:
    """Joins arrays; empty vectors are left out, as torch has it."""
    return jnp.concatenate([part for part in parts if part.shape != (0,)], axis=dim)


def _along(x: Array, dim: int, what: Any) -> tuple[Any, ...]:
    """An index that is ``what`` along one axis and everything along the others."""
    index: list[Any] = [slice(None)] * x.ndim
    index[dim] = what
    return tuple(index)


def cut(x: Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Array:
    return x[_along(x, dim, slice(start, end, step))]


def slice_scatter(
    x: Array, source: Array, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Array:
    """``x`` with a slice replaced."""
    return x.at[_along(x, dim, slice(start, end, step))].set(source)


def select(x: Array, dim: int, index: int) -> Array:
    return x[_along(x, dim, index)]


def select_scatter(x: Array, source: Array, dim: int, index: int) -> Array:
    """``x`` with one entry of an axis replaced."""
    return x.at[_along(x, dim, index)].set(source)


def split_with_sizes(x: Array, sizes: Sequence[int], dim: int = 0) -> list[Array]:
    ends = [sum(sizes[: count + 1]) for count in range(len(sizes))]
    return jnp.split(x, ends[:-1], axis=dim)


def split(x: Array, size: int, dim: int = 0) -> list[Array]:
    return jnp.split(x, list(range(size, x.shape[dim], size)), axis=dim)


def unbind(x: Array, dim: int = 0) -> list[Array]:
    return [select(x, dim, index) for index in range(x.shape[dim])]


def index(x: Array, indices: Sequence[Array | None]) -> Array:
    return x[tuple(slice(None) if one is None else one for one in indices)]


def index_select(x: Array, dim: int, index: Array) -> Array:
    return jnp.take(x, index, axis=dim)


def gather(x: Array, dim: int, index: Array, sparse_grad: bool = False) -> Array:
    """``x`` at these places of an axis; along the others the first entries are read."""
    del sparse_grad
    axis = dim % x.ndim
    part = (slice(None) if at == axis else slice(count) for at, count in enumerate(index.shape))
    return jnp.take_along_axis(x[tuple(part)], index, axis=axis)


def embedding(table: Array, indices: Array, *rest: Any) -> Array:
    """Rows of a table; ``rest`` is about gradients."""
    del rest
    return table[indices]


def repeat(x: Array, repeats: Sequence[int]) -> Array:
    return jnp.tile(x, tuple(repeats))


def pad(x: Array, widths: Sequence[int], value: Number = 0) -> Array:
    """Adds a constant at the ends; widths begin with the last axis, negative ones cut off."""
    pairs = [(widths[at], widths[at + 1]) for at in range(0, len(widths), 2)]
    pairs += [(0, 0)] * (x.ndim - len(pairs))
    ends = pairs[::-1]
    for axis, (before, after) in enumerate(ends):
        x = cut(x, axis, max(-before, 0), x.shape[axis] - max(-after, 0))
    added = [(max(before, 0), max(after, 0)) for before, after in ends]
    return jnp.pad(x, added, constant_values=value)


def unchanged(x: Array, *rest: Any, **options: Any) -> Array:
    """Copies, and conversions: the interpreter gives every result its dtype."""
    del rest, options
    return x


def arange(start: Number, end: Number, step: Number = 1) -> Array:
    return jnp.arange(start, end, step)


def copy(x: Array, source: Array, non_blocking: bool = False) -> Array:
    """What overwrites ``x``, in its shape."""
    del non_blocking
    return jnp.broadcast_to(source, x.shape)


def full_like(x: Array, value: Number) -> Array:
    return jnp.full(x.shape, value)


OPERATORS: dict[str, Callable[..., Any]] = {
    "aten.view.default": jnp.reshape,
    "aten._unsafe_view.default": jnp.reshape,
    "aten.reshape.default": jnp.reshape,
    "aten.permute.default": jnp.transpose,
    "aten.t.default": jnp.transpose,
    "aten.transpose.int": jnp.swapaxes,
    "aten.unsqueeze.default": jnp.expand_dims,
    **{f"aten.squeeze.{kind}": squeeze for kind in ("default", "dim", "dims")},
    "aten.expand.default": expand,
    "aten.cat.default": cat,
    "aten.stack.default": lambda parts, dim=0: jnp.stack(parts, axis=dim),
    "aten.slice.Tensor": cut,
    "aten.slice_scatter.default": slice_scatter,
    "aten.select.int": select,
    "aten.select_scatter.default": select_scatter,
    "aten.split_with_sizes.default": split_with_sizes,
    "aten.split.Tensor": split,
    "aten.unbind.int": unbind,
    "aten.index.Tensor": index,
    "aten._unsafe_index.Tensor": index,
    "aten.index_select.default": index_select,
    "aten.gather.default": gather,
    "aten.embedding.default": embedding,
    "aten.repeat.default": repeat,
    "aten.constant_pad_nd.default": pad,
    "aten.flip.default": jnp.flip,
    **{
        f"aten.{name}.default": unchanged
        for name in ("clone", "alias", "detach", "contiguous", "lift_fresh_copy", "_to_copy")
    },
    "aten.copy.default": copy,
    "aten.full.default": lambda size, value: jnp.full(size, value),
    "aten.full_like.default": full_like,
    "aten.empty.memory_format": lambda size: jnp.zeros(size),
    "aten.scalar_tensor.default": jnp.asarray,
    "aten.arange.start_step": arange,
    "aten.sym_size.int": lambda x, dim: x.shape[dim],
}
