"""Training on what is kept: from the weights as they are, from new ones, or towards sparse ones."""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.editors.unlearning.gradient_editor import Batch, GradientEditor, Optimizer
from modeledit_jax.edits.layers import fresh_leaves
from modeledit_jax.types import Array, Key, Leaves


@dataclass(frozen=True)
class FineTune(GradientEditor):
    """Trains on: ``E_retain ℓ``, and counts on forgetting by itself ("FT").

    With the scope of the last k layers it is CF-k of Goel et al. 2022 (*Towards Adversarial
    Evaluation for Inexact Machine Unlearning*, arXiv 2201.06640).
    """

    draws: ClassVar[tuple[str, ...]] = ("retain",)

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        return batch.cross_entropy("retain")


@dataclass(frozen=True)
class ExactUnlearning(FineTune):
    """Trains the leaves of the scope anew on what is kept, all others as they are.

    EU-k of Goel et al. 2022, with the scope of the last k layers. On the site it is the best that
    an edit of the site can be expected to be.
    """

    optimizer: Optimizer = "adam"
    learning_rate: float = 2e-3

    def start(self, leaves: Leaves, key: Key) -> Leaves:
        return fresh_leaves(leaves, key)


@dataclass(frozen=True)
class L1Sparse(FineTune):
    """Trains on with a price on weights: ``E_retain ℓ + sparsity · s · ‖θ‖₁``, which prunes.

    ``s`` falls from 1 to 0 over the first ``1 − free`` of the steps, linearly ("ℓ1-sparse": Jia et
    al. 2023, *Model Sparsity Can Simplify Machine Unlearning*, arXiv 2304.04934, as in its code).

    Attributes:
      sparsity: price of the absolute values of the scope's leaves, at first.
      free: share of the steps at the end that are without it.
    """

    sparsity: float = 5e-4
    free: float = 0.2

    def check(self) -> None:
        super().check()
        if not 0 <= self.free < 1 or not 0 <= self.sparsity < math.inf:
            raise ValueError(f"free must be in [0, 1) and sparsity finite and at least 0: {self}")

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        share = jnp.maximum(1.0 - step / (self.steps * (1.0 - self.free)), 0.0)
        size = sum(jnp.abs(leaf).sum() for leaf in leaves.values())
        return batch.cross_entropy("retain") + self.sparsity * share * size
