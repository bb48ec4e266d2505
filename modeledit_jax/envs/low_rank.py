"""Edits that are scored by what they add to a layer, and not by the edited kernel.

For a dense layer of known input ``h``, ``h (W + A Bᵀ) = h W + (h A) Bᵀ``: with ``h W`` at hand
(`SplitApply.products`) a candidate costs ``N K (D + H)`` multiplications there in place of
``N D H``. The edits of an episode add up to a matrix of rank ``T K`` at most, whose factors the
state carries beside the edited leaves. Where a layer's input depends on another edit, or where the
factors are no thinner than the kernel, the edited kernel is multiplied as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.edits.edit import Bases, Edit
from modeledit_jax.edits.parametrization import Factors
from modeledit_jax.edits.split_apply import Features, SplitApply, run_products
from modeledit_jax.types import Array, Leaves

LARGEST_SHARE = 0.5
"""Of the kernel's multiplications that those of the factors may be."""

Added: TypeAlias = dict[str, Factors] | None
"""``{path: left [D, T·K], right [H, T·K]}``, the sum of an episode's edits so far; None where an
episode has one edit, or no edit is low-rank."""


@dataclass(frozen=True)
class LowRankEdits:
    """Which layers of a world are scored by what an edit adds, and how. Equal by value.

    Attributes:
      edit: of the world.
      split: of the world.
      paths: of the kernels.
      horizon: ``T``, edits of an episode.
    """

    edit: Edit
    split: SplitApply
    paths: tuple[str, ...]
    horizon: int

    @classmethod
    def of(cls, edit: Edit, split: SplitApply, leaves: Leaves, horizon: int) -> "LowRankEdits":
        """All kernels for which it is exact and cheaper.

        Kernels of less than float32 are none: an edited one is rounded to its dtype.
        """
        paths = []
        for path, factors in _shapes(edit, leaves).items() if edit.is_low_rank else ():
            rows, columns = (factor.shape[0] for factor in factors)
            cost = horizon * factors.left.shape[1] * (rows + columns)
            cheap = path in split.entries and cost <= LARGEST_SHARE * rows * columns
            if cheap and leaves[path].dtype == jnp.float32:
                paths.append(path)
        return cls(edit, split, tuple(paths), horizon)

    def products(self, leaves: Leaves, features: Features) -> Leaves:
        """What the layers put out with unedited kernels, ``{path: [N, 1, ..., H]}``."""
        products = run_products(self.split, leaves, features) if self.paths else {}
        return {path: products[path] for path in self.paths}

    def start(self, original: Leaves) -> Added:
        """Before the first edit of an episode."""
        if self.horizon == 1 or not self.paths:
            return None
        shapes = _shapes(self.edit, original)

        def empty(factor: Any) -> Array:
            return jnp.zeros((factor.shape[0], self.horizon * factor.shape[1]), factor.dtype)

        return {path: Factors(*map(empty, shapes[path])) for path in self.paths}

    def outputs(
        self,
        leaves: Leaves,
        before: Added,
        action: Float[Array, " a"],
        time: Int[Array, ""],
        original: Leaves,
        features: Features,
        products: Leaves,
        bases: Bases,
    ) -> tuple[Array, Added]:
        """Outputs ``[N, ...]`` after one more edit, and what all edits have added.

        Args:
          leaves: edited.
          before: of the edits before, as `start` and this method give it.
          action: ``[A]`` of the edit.
          time: number of edits before.
          original: the unedited leaves.
          features: of the examples.
          products: as `products` gives them.
          bases: of the matrices of edits.
        """
        if not self.paths:
            return self.split.suffix(leaves, features), None
        step = self.edit.factors(action, original, bases)
        added = {
            path: step[path] if before is None else self._joined(before[path], step[path], time)
            for path in self.paths
        }
        outputs = self.split.suffix(leaves, features, added, products)
        return outputs, None if before is None else added

    def _joined(self, before: Factors, step: Factors, time: Int[Array, ""]) -> Factors:
        own = (jnp.arange(self.horizon) == time)[None, :, None]

        def put(old: Array, new: Array) -> Array:
            slots = old.reshape(old.shape[0], self.horizon, -1)
            return jnp.where(own, new[:, None], slots).reshape(old.shape)

        return Factors(put(before.left, step.left), put(before.right, step.right))


def _shapes(edit: Edit, leaves: Leaves) -> Mapping[str, Factors]:
    action = jax.ShapeDtypeStruct((edit.action_size,), jnp.float32)
    return jax.eval_shape(edit.factors, action, dict(leaves))
