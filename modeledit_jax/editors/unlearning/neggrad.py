"""Gradient ascent on what is to be forgotten, alone and beside descent on what is kept."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float, Int

from modeledit_jax.editors.unlearning.gradient_editor import ALL, Batch, GradientEditor
from modeledit_jax.types import Array, Leaves


@dataclass(frozen=True)
class NegGradPlus(GradientEditor):
    """Descends on ``alpha · E_retain ℓ − (1 − alpha) · E_forget ℓ``, ``ℓ`` the cross-entropy.

    The strong and simple baseline of gradient-based unlearning (Kurmanji et al. 2023, *Towards
    Unbounded Machine Unlearning*, arXiv 2302.09880, there "NegGrad+"). Batches are drawn from all
    training examples; means are over a batch's own.

    Attributes:
      alpha: weight of what is kept, in (0, 1). The published 0.95 is for whole networks; where one
        layer alone may change it takes much of the rest along.
    """

    draws: ClassVar[tuple[str, ...]] = (ALL,)

    alpha: float = 0.995

    def check(self) -> None:
        super().check()
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        kept, lost = batch.cross_entropy("retain"), batch.cross_entropy("forget")
        return self.alpha * kept - (1.0 - self.alpha) * lost


@dataclass(frozen=True)
class GradientAscent(GradientEditor):
    """Ascends on the cross-entropy of the examples to forget, and sees no others.

    "NegGrad" of Golatkar et al. 2020 (*Eternal Sunshine of the Spotless Net*) and "GA" of the
    comparisons since. Nothing holds it back, so that few steps of a small size are its settings.
    """

    draws: ClassVar[tuple[str, ...]] = ("forget",)

    steps: int = 100

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        return -batch.cross_entropy("forget")
