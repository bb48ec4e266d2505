"""How an action vector becomes one matrix per edited leaf.

Every parametrization is linear or bilinear in the action and maps the zero action to the zero
matrix. A leaf of more than two axes (a convolution kernel) is read as the matrix ``[D, H]`` whose
columns are the last axis; a leaf of one axis (a bias) as a single row. A `Factorized` one gives its
matrix as a product of two thin ones, which makes additive edits of dense layers cheap to evaluate.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.types import Array, Key

Shape = tuple[int, ...]


def matrix_shape(shape: Shape) -> tuple[int, int]:
    """Returns ``(D, H)``: the leaf's leading axes flattened to rows, its last axis as columns."""
    if not shape:
        raise ValueError("a scalar leaf cannot be edited as a matrix; choose an array leaf")
    return math.prod(shape[:-1]), shape[-1]


@runtime_checkable
class Parametrization(Protocol):
    """Maps an action vector to a matrix of a leaf's shape."""

    def size(self, shape: Shape) -> int:
        """Number of action entries that a leaf of this shape takes."""
        ...

    def matrix(self, action: Float[Array, " a"], shape: Shape) -> Array:
        """The matrix ``M`` (of the leaf's shape) that ``action`` stands for."""
        ...

    def start(self, key: Key, shape: Shape) -> Float[Array, " a"]:
        """Where a search distribution over actions should be centered at first."""
        ...


class Factors(NamedTuple):
    """A matrix ``[D, H]`` of rank ``K`` at most, as ``left @ right.T``."""

    left: Float[Array, "d k"]
    right: Float[Array, "h k"]


class Factorized:
    """Base of parametrizations that define `factors`; the matrix is their product."""

    def factors(self, action: Float[Array, " a"], shape: Shape) -> Factors:
        """``left [D, K]`` and ``right [H, K]`` with ``M = left @ right.T``."""
        raise NotImplementedError

    def matrix(self, action: Float[Array, " a"], shape: Shape) -> Array:
        left, right = self.factors(action, shape)
        return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST).reshape(shape)


def is_factorized(parametrization: Parametrization) -> bool:
    """Whether its matrix is the product of its `factors`, and not one of its own."""
    own = type(parametrization)
    return issubclass(own, Factorized) and own.matrix is Factorized.matrix


@dataclass(frozen=True)
class LowRank(Factorized):
    """``M = A Bᵀ / √R`` with ``A [D, R]`` and ``B [H, R]`` (Malik 2026, factorized actions).

    ``start`` draws both factors from ``N(0, start_scale²)``: at zero the product has no
    first-order signal, so a search centered there would not move.
    """

    rank: int = 4
    start_scale: float = 0.3

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    def size(self, shape: Shape) -> int:
        return self.rank * sum(matrix_shape(shape))

    def factors(self, action: Float[Array, " a"], shape: Shape) -> Factors:
        rows, columns = matrix_shape(shape)
        left, right = jnp.split(action, [rows * self.rank])
        right = right.reshape(columns, self.rank) / math.sqrt(self.rank)
        return Factors(left.reshape(rows, self.rank), right)

    def start(self, key: Key, shape: Shape) -> Float[Array, " a"]:
        return self.start_scale * jax.random.normal(key, (self.size(shape),))


@dataclass(frozen=True)
class PerWeight:
    """One action entry for every weight."""

    def size(self, shape: Shape) -> int:
        return math.prod(matrix_shape(shape))

    def matrix(self, action: Float[Array, " a"], shape: Shape) -> Array:
        return action.reshape(shape)

    def start(self, key: Key, shape: Shape) -> Float[Array, " a"]:
        del key
        return jnp.zeros(self.size(shape))


@dataclass(frozen=True)
class PerRow(Factorized):
    """One action entry for every row, that is for every input neuron of the edited layer."""

    def size(self, shape: Shape) -> int:
        return matrix_shape(shape)[0]

    def factors(self, action: Float[Array, " a"], shape: Shape) -> Factors:
        return Factors(action[:, None], jnp.ones((matrix_shape(shape)[1], 1), action.dtype))

    def start(self, key: Key, shape: Shape) -> Float[Array, " a"]:
        del key
        return jnp.zeros(self.size(shape))


@dataclass(frozen=True)
class PerColumn(Factorized):
    """One action entry for every column, that is for every output neuron of the edited layer."""

    def size(self, shape: Shape) -> int:
        return matrix_shape(shape)[1]

    def factors(self, action: Float[Array, " a"], shape: Shape) -> Factors:
        return Factors(jnp.ones((matrix_shape(shape)[0], 1), action.dtype), action[:, None])

    def start(self, key: Key, shape: Shape) -> Float[Array, " a"]:
        del key
        return jnp.zeros(self.size(shape))
