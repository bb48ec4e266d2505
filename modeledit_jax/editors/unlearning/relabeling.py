"""Training on other labels for what is to be forgotten: random ones, or those across the boundary.

A new label is never the true one nor, where classes are forgotten, one of these; the published code
of random labels draws from all classes.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax.editors.unlearning.gradient_editor import (
    Batch,
    GradientEditor,
    Network,
    TrainingSets,
)
from modeledit_jax.editors.unlearning.gradients import mean_gradient
from modeledit_jax.edits.split_apply import Features
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Apply, Array, Key, Leaves, Params


@dataclass(frozen=True)
class RandomLabel(GradientEditor):
    """``E_forget CE(f, ỹ) + retain_weight · E_retain ℓ`` with labels ``ỹ`` drawn once.

    "Amnesiac" unlearning of Graves et al. 2021 (arXiv 2010.10981), "RL" of the comparisons since.

    Attributes:
      retain_weight: at least 0; α of SalUn, equation 6.
    """

    draws: ClassVar[tuple[str, ...]] = ("forget", "retain")

    retain_weight: float = 1.0

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        allowed = other_classes(task, network, sets.label)
        label = jax.random.categorical(key, jnp.where(allowed, 0.0, -jnp.inf))
        return replace(sets, targets={"label": label.astype(sets.label.dtype)})

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        lost = batch.cross_entropy("forget", batch.targets["label"])
        return lost + self.retain_weight * batch.cross_entropy("retain")


@dataclass(frozen=True)
class SalUn(RandomLabel):
    """`RandomLabel` on the most salient weights of the scope; the others keep their bits.

    Salient are the weights whose loss on the forget examples has the largest gradient on the
    unedited network (Fan et al. 2024, *SalUn*, arXiv 2310.12508): the absolute value of the
    gradient of the mean, as published, not the mean of absolute gradients.

    Attributes:
      share: of the scope's weights that may change, in (0, 1].
    """

    share: float = 0.5

    def check(self) -> None:
        super().check()
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")

    def mask(self, network: Network, sets: TrainingSets, features: Features) -> Leaves | None:
        data = (sets.x[:1], features, sets.label, sets.weights["forget"])
        gradient = mean_gradient((network.apply, network.paths), network.params, *data)
        return _largest(gradient, self.share)


@dataclass(frozen=True)
class BoundaryShrink(GradientEditor):
    """``E_forget CE(f, ŷ)`` with the class ``ŷ`` that lies nearest across the boundary.

    ``ŷ`` is the likeliest other class of the unedited network at ``x + epsilon · sign ∇ₓℓ`` (Chen
    et al. 2023, *Boundary Unlearning*, arXiv 2303.11570).

    Attributes:
      epsilon: step into the direction of the boundary, in units of the inputs.
    """

    draws: ClassVar[tuple[str, ...]] = ("forget",)

    epsilon: float = 0.1
    steps: int = 100

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        check_float(sets.x, "boundary shrink moves inputs along a gradient")
        epsilon = jnp.float32(self.epsilon)
        across = _moved(network.apply, network.params, sets.x, sets.label, epsilon)
        allowed = other_classes(task, network, sets.label)
        logits = jnp.where(allowed, network.logits(across), -jnp.inf)
        return replace(sets, targets={"label": logits.argmax(axis=1).astype(sets.label.dtype)})

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        return batch.cross_entropy("forget", batch.targets["label"])


def other_classes(task: Task, network: Network, label: Int[Array, " n"]) -> Bool[Array, "n c"]:
    """Which classes an example may be called instead of its own.

    Args:
      task: of whose classes those to be forgotten are excluded.
      network: whose outputs are counted.
      label: of the examples.

    Raises:
      ValueError: there is no other class.
    """
    one = jnp.asarray(task.roles["train"].x[:1])
    outputs = jax.eval_shape(network.apply, network.params, one)
    classes = jnp.arange(max(outputs.shape[-1], 2))
    forgotten = jnp.asarray(getattr(task, "forget_classes", ()), jnp.int32)
    if len(forgotten) >= len(classes):
        raise ValueError("all classes are to be forgotten: there is no other label to train on")
    return (classes != label[:, None]) & ~jnp.isin(classes, forgotten)


def check_float(x: Array, why: str) -> None:
    """Raises ValueError for inputs that have no gradient, such as token ids."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{why}, and the inputs are {x.dtype}: leave it out")


@partial(jax.jit, static_argnums=0)
def _moved(apply: Apply, params: Params, x: Array, label: Array, epsilon: Array) -> Array:
    """The inputs one step up their own loss."""

    def moved(one: tuple[Array, Array]) -> Array:
        def loss(x: Array) -> Array:
            return cross_entropy(apply(params, x[None]), one[1][None])[0]

        return one[0] + epsilon * jnp.sign(jax.grad(loss)(one[0]))

    return jax.lax.map(moved, (x, label), batch_size=2048)


@partial(jax.jit, static_argnums=1)
def _largest(leaves: Leaves, share: float) -> Leaves:
    """1 at the entries that are among the largest of all leaves by absolute value, else 0."""
    size = jax.tree.map(jnp.abs, leaves)
    every = jnp.sort(jnp.concatenate([leaf.reshape(-1) for leaf in size.values()]))
    least = every[len(every) - max(round(share * len(every)), 1)]
    # An entry without any influence is never chosen, even where fewer than the share have some.
    chosen = jax.tree.map(lambda leaf: (leaf >= least) & (leaf > 0), size)
    return jax.tree.map(lambda leaf, own: own.astype(leaf.dtype), leaves, chosen)
