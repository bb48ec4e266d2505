"""A kernel times all examples as columns, in the form that is fast for many candidates.

Candidates of a search share the layers above the edited one. Mapped over candidates, a product of a
shared kernel and columns of each, ``[H, D] · [E, D, N]``, is by default one product of
``[H, D] · [D, E N]``, for which XLA moves the columns of all candidates together and the results
apart again. On a CPU, ``E`` products of contiguous columns are faster (docs/performance.md), if
they contract the last axis of their left operand: such products alone go to XLA's library YNN.
"""

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Float

from modeledit_jax.types import Array

Options: TypeAlias = tuple[tuple[str, Any], ...]
"""``precision`` and ``preferred_element_type`` of `jax.lax.dot_general`, hashable."""

COLUMNS_OVER_KERNEL = 8
"""Columns of a candidate that are so many times its kernel are worth a copy of the kernel."""


def column_product(
    kernel: Float[Array, "d h"], columns: Float[Array, "d n"], **options: Any
) -> Float[Array, "h n"]:
    """``kernelᵀ @ columns``.

    Args:
      kernel: of a dense layer.
      columns: its inputs, an example each.
      **options: ``precision`` and ``preferred_element_type`` of `jax.lax.dot_general`.
    """
    given = tuple(options.items())
    large = COLUMNS_OVER_KERNEL * kernel.size <= columns.size
    if jax.default_backend() != "cpu" or not large:
        return _product(given, 0, kernel.T, columns)
    return _differentiable(given, kernel.T, columns)


def _product(options: Options, axes: int, kernel: Array, columns: Array) -> Array:
    """``[..., h, d] @ [..., d, n]`` with so many leading axes in common."""
    leading = tuple(range(axes))
    dimensions = (((axes + 1,), (axes,)), (leading, leading))
    return jax.lax.dot_general(kernel, columns, dimensions, **dict(options))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _differentiable(options: Options, kernel: Array, columns: Array) -> Array:
    return _mapped(options, 0)(kernel, columns)


@partial(_differentiable.defjvp, symbolic_zeros=True)
def _derivative(options: Options, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """That of a plain product: what `custom_vmap` maps cannot be transposed."""
    kernel, columns = primals
    plain = partial(_product, options, 0)
    parts = []
    if not isinstance(tangents[0], SymbolicZero):
        parts.append(plain(tangents[0], columns))
    if not isinstance(tangents[1], SymbolicZero):
        parts.append(plain(kernel, tangents[1]))
    return plain(kernel, columns), sum(parts[1:], parts[0])


def _mapped(options: Options, axes: int) -> Any:
    """`_product` with a rule of its own for `jax.vmap`: a shared kernel is repeated."""
    plain = partial(_product, options, axes)
    product = custom_vmap(plain)

    @product.def_vmap
    def rule(size: int, batched: list[bool], kernel: Array, columns: Array) -> tuple[Array, bool]:
        kernels_differ, columns_differ = batched
        if not columns_differ:  # one product of the kernels side by side is as good as can be
            return jax.vmap(plain, (0, None))(kernel, columns), True
        if not kernels_differ:
            kernel = jnp.broadcast_to(kernel, (size, *kernel.shape))
        return _mapped(options, axes + 1)(kernel, columns), True

    return product
