"""Students of the unedited network: close to it on what is kept, away from it on the rest."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from modeledit_jax.editors.unlearning.gradient_editor import (
    Batch,
    GradientEditor,
    Network,
    Optimizer,
    TrainingSets,
)
from modeledit_jax.editors.unlearning.scope import scope_paths
from modeledit_jax.edits.layers import fresh_leaves
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.evaluation.accuracy import accuracy, all_logits
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves


def divergences(
    teacher: Float[Array, "n c"], student: Float[Array, "n c"], temperature: float = 1.0
) -> Float[Array, " n"]:
    """``T² KL(softmax(teacher / T) ‖ softmax(student / T))`` of every example, in nats."""
    p, q = (
        jax.nn.log_softmax(all_logits(z).astype(jnp.float32) / temperature)
        for z in (teacher, student)
    )
    return temperature**2 * jnp.sum(jnp.exp(p) * (p - q), axis=-1)


@dataclass(frozen=True)
class SCRUB(GradientEditor):
    """Steps up ``E_forget KL`` take turns with steps down ``ce_weight E_retain ℓ + kl_weight KL``.

    ``KL`` is that of `divergences` from the unedited network (Kurmanji et al. 2023, arXiv
    2302.09880). Steps come in cycles, the paper's epochs: the first few of a cycle ascend, in the
    first cycles alone, and all others descend. At the unedited network the divergence is zero and
    so is its slope, so that forgetting begins in the second cycle.

    Attributes:
      ce_weight: γ of the paper.
      kl_weight: α of the paper.
      temperature: of the divergence.
      cycle: steps of a cycle.
      ascents: how many of them ascend, in the first ``max_cycles`` cycles.
      max_cycles: likewise.
      rewind: return the weights at the end of that cycle whose accuracy on the forget examples is
        closest to what the final ones have on held-out examples of the same kind ("SCRUB+R"): for
        classes those of the ``reward`` role, for single samples its retained ones.
    """

    draws: ClassVar[tuple[str, ...]] = ("forget", "retain")

    steps: int = 1000
    ce_weight: float = 0.99
    kl_weight: float = 0.001
    temperature: float = 4.0
    cycle: int = 100
    ascents: int = 10
    max_cycles: int = 3
    rewind: bool = False

    def check(self) -> None:
        super().check()
        if not 0 < self.temperature < math.inf or self.cycle < 1:
            raise ValueError(f"temperature must be finite and above 0, cycle at least 1: {self}")

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        return replace(sets, targets={"original": network.logits(sets.x)})

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        apart = divergences(batch.targets["original"], batch.logits, self.temperature)
        kept = self.ce_weight * batch.cross_entropy("retain")
        kept += self.kl_weight * batch.mean("retain", apart)
        ascends = (step % self.cycle < self.ascents) & (step // self.cycle < self.max_cycles)
        return jnp.where(ascends, -batch.mean("forget", apart), kept)

    def kept_steps(self) -> int | None:
        return self.cycle if self.rewind else None

    def chosen(self, task: Task, network: Network, leaves: Leaves, kept: Leaves) -> Leaves:
        if not self.rewind:
            return leaves
        held_out = "forget" if getattr(task, "forget_classes", ()) else "retain"
        goal = _accuracy(task, network, leaves, "reward", held_out)
        count = len(next(iter(kept.values())))
        cycles = [jax.tree.map(lambda all, at=at: all[at], kept) for at in range(count)]
        found = [_accuracy(task, network, own, "train", "forget") for own in cycles]
        return cycles[int(np.argmin(np.abs(np.array(found) - goal)))]


@dataclass(frozen=True)
class BadTeacher(GradientEditor):
    """``E_forget KL(untrained ‖ f) + E_retain KL(unedited ‖ f)``.

    Two teachers, of which the incompetent one has fresh weights (Chundawat et al. 2023, *Can Bad
    Teaching Induce Forgetting?*, arXiv 2205.08096); here both sets have the same weight in a step.
    """

    draws: ClassVar[tuple[str, ...]] = ("forget", "retain")

    optimizer: Optimizer = "adam"
    learning_rate: float = 1e-4

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        weights = get_leaves(network.params, scope_paths(task, "network"))
        untrained = set_leaves(network.params, fresh_leaves(weights, key))
        bad, good = (replace(network, params=p).logits(sets.x) for p in (untrained, network.params))
        forget = sets.weights["forget"][:, None] > 0
        return replace(sets, targets={"teacher": jnp.where(forget, bad, good)})

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        apart = divergences(batch.targets["teacher"], batch.logits)
        return batch.mean("forget", apart) + batch.mean("retain", apart)


def _accuracy(task: Task, network: Network, leaves: Leaves, role: str, name: str) -> float:
    sets = task.roles[role]
    edited = replace(network, params=set_leaves(network.params, leaves))
    logits = edited.logits(jnp.asarray(sets.x))
    return float(accuracy(logits, jnp.asarray(sets.label), jnp.asarray(sets.weights[name])))
