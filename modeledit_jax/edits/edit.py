"""An edit: the site's leaves, a parametrization and an operator in one."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.edits.operator import Operator, shift
from modeledit_jax.edits.parametrization import (
    Factorized,
    Factors,
    LowRank,
    Parametrization,
    Shape,
    is_factorized,
    matrix_shape,
)
from modeledit_jax.edits.site_choice import SiteChoice
from modeledit_jax.types import Array, Key, Leaves

Bases = Mapping[str, Array] | None
"""``{path: [D, D]}``, by which the matrix of every leaf is multiplied from the left: its rows are
coordinates. None: of the weights themselves."""


@dataclass(frozen=True)
class Edit:
    """Turns an action vector ``[A]`` into edited leaves.

    Attributes:
      operator: what the matrices do to the weights (`mask`, `shift` or a function of yours).
      shapes: ``(path, shape)`` of every edited leaf; their action entries follow in this order.
      parametrization: how a stretch of the action becomes a leaf's matrix.
      choice: of the leaves that an action edits, by scores ``[S]`` before those entries; the
        matrices of the others are zero. None: all, and there are no scores.
    """

    operator: Operator
    shapes: tuple[tuple[str, Shape], ...]
    parametrization: Parametrization
    choice: SiteChoice | None = None

    @classmethod
    def of(
        cls,
        leaves: Leaves,
        operator: Operator,
        parametrization: Parametrization | None = None,
        choice: SiteChoice | None = None,
    ) -> "Edit":
        """The edit that fits these leaves."""
        return cls(operator, leaf_shapes(leaves), parametrization or LowRank(), choice)

    @property
    def num_scores(self) -> int:
        """Number of scores that an action begins with."""
        return 0 if self.choice is None else self.choice.of

    @property
    def action_size(self) -> int:
        """``A``, the number of scores and of action entries over all leaves."""
        sizes = (self.parametrization.size(shape) for _, shape in self.shapes)
        return self.num_scores + sum(sizes)

    def matrices(self, action: Float[Array, " a"]) -> Leaves:
        """Returns the matrix of every leaf, ``{path: M}``.

        Raises:
          ValueError: the action has not ``action_size`` entries.
        """
        return {
            path: self.parametrization.matrix(part, shape)
            for path, (shape, part) in self._parts(action).items()
        }

    @property
    def is_low_rank(self) -> bool:
        """Whether an edit adds the product of two thin matrices to every leaf (`factors`)."""
        return self.operator is shift and is_factorized(self.parametrization)

    def factors(
        self, action: Float[Array, " a"], original: Leaves, bases: Bases = None
    ) -> dict[str, Factors]:
        """What an edit adds to every leaf, where it `is_low_rank`: ``{path: Factors}``.

        Args:
          action: ``[A]``.
          original: the unedited leaves.
          bases: of the matrices.
        """
        assert isinstance(self.parametrization, Factorized) and self.is_low_rank
        found = {}
        for path, (shape, part) in self._parts(action).items():
            left, right = self.parametrization.factors(part, shape)
            left = _in_basis(bases, path, left)
            found[path] = Factors(left, spread(original[path]) * right)
        return found

    def _parts(self, action: Float[Array, " a"]) -> dict[str, tuple[Shape, Array]]:
        """The shape of every leaf and its entries of the action."""
        if action.shape != (self.action_size,):
            raise ValueError(
                f"this edit takes an action of {self.action_size} entries (action_size), "
                f"got shape {action.shape}"
            )
        begin = self.num_scores
        chosen = None if self.choice is None else self.choice.chosen(action[:begin])
        parts = {}
        for index, (path, shape) in enumerate(self.shapes):
            end = begin + self.parametrization.size(shape)
            part = action[begin:end]
            parts[path] = (shape, part if chosen is None else jnp.where(chosen[index], part, 0.0))
            begin = end
        return parts

    def start(self, key: Key) -> Float[Array, " a"]:
        """Returns where a search over actions should be centered at first."""
        keys = jax.random.split(key, len(self.shapes))
        parts = [
            self.parametrization.start(k, shape)
            for k, (_, shape) in zip(keys, self.shapes, strict=True)
        ]
        if self.choice is not None:
            parts = [self.choice.start(jax.random.fold_in(key, 0)), *parts]
        return jnp.concatenate(parts)

    def __call__(
        self,
        leaves: Leaves,
        original: Leaves,
        action: Float[Array, " a"],
        bases: Bases = None,
    ) -> Leaves:
        """Applies one action.

        Args:
          leaves: the current weights; in an episode of several steps, edited already.
          original: the unedited weights, whose spread sets the unit of a shift.
          action: ``[A]``; zeros change nothing.
          bases: of the matrices.

        Returns:
          The edited leaves, each of the dtype it had.
        """
        return {
            path: self.operator(
                leaves[path], _in_basis(bases, path, matrix), spread(original[path])
            ).astype(leaves[path].dtype)
            for path, matrix in self.matrices(action).items()
        }


def leaf_shapes(leaves: Leaves) -> tuple[tuple[str, Shape], ...]:
    """Paths and shapes, in the order of the leaves."""
    return tuple((path, tuple(leaf.shape)) for path, leaf in leaves.items())


def _in_basis(bases: Bases, path: str, matrix: Array) -> Array:
    """A leaf's matrix, or its left factor, whose rows were coordinates."""
    if bases is None:
        return matrix
    rows = matrix.reshape(matrix_shape(matrix.shape))
    product = jnp.matmul(bases[path], rows, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(matrix.shape)


def spread(leaf: Float[Array, "..."]) -> Float[Array, ""]:
    """Standard deviation of a leaf's weights; 1 where they are all equal, so that it can divide."""
    deviation = jnp.std(leaf)
    return jnp.where(deviation > 0, deviation, 1.0)
