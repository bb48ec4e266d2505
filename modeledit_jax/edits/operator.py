"""What the matrix of an edit does to the weights.

An operator takes the current weights ``W``, the matrix ``M`` of the same shape and the spread
``scale`` of the *unedited* leaf (a scalar), and returns the edited weights. ``M = 0`` leaves ``W``
as it is, exactly.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.types import Array

Operator: TypeAlias = Callable[[Array, Array, Array], Array]


def mask(
    weights: Float[Array, "*shape"], matrix: Float[Array, "*shape"], scale: Float[Array, ""]
) -> Float[Array, "*shape"]:
    """Scales every weight by a factor in (0, 2): ``W · (1 + tanh M)`` (MaskWorld)."""
    del scale  # a factor has no unit
    return weights * (1.0 + jnp.tanh(matrix))


def shift(
    weights: Float[Array, "*shape"], matrix: Float[Array, "*shape"], scale: Float[Array, ""]
) -> Float[Array, "*shape"]:
    """Adds to every weight, in units of the unedited leaf's spread: ``W + std(W₀) · M``."""
    return weights + scale * matrix
