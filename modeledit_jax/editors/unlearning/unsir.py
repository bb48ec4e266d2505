"""UNSIR: inputs that the network is worst at wash a class out, training on the rest repairs."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from modeledit_jax.editors.unlearning.gradient_editor import (
    Batch,
    GradientEditor,
    Network,
    TrainingSets,
)
from modeledit_jax.editors.unlearning.relabeling import check_float
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.types import Apply, Array, Key, Leaves, Params


@dataclass(frozen=True)
class NoiseSettings:
    """How the inputs are found that stand for a class: Adam on ``−ℓ + price · ‖x‖²``.

    Attributes:
      inputs: of every class.
      steps: of Adam.
      learning_rate: likewise.
      price: of the squared entries of an input, summed.
    """

    inputs: int = 32
    steps: int = 25
    learning_rate: float = 0.1
    price: float = 0.1


@dataclass(frozen=True)
class UNSIR(GradientEditor):
    """Trains on ``E_noise ℓ + E_retain ℓ`` (impair), then on ``E_retain ℓ`` (repair).

    The noise has the labels of the classes to forget and maximizes their loss on the unedited
    network (Tarun et al. 2023, *Fast Yet Effective Machine Unlearning*, arXiv 2111.08947).

    Attributes:
      noise: how it is found.
      impair: share of the steps that impair.
    """

    draws: ClassVar[tuple[str, ...]] = ("noise", "retain")

    learning_rate: float = 0.02
    steps: int = 500
    noise: NoiseSettings = NoiseSettings()
    impair: float = 0.5

    def check(self) -> None:
        super().check()
        if not 0 < self.impair <= 1:
            raise ValueError(f"impair must be above 0 and at most 1, got {self.impair}")
        if min(self.noise.inputs, self.noise.steps) < 1:
            raise ValueError(f"noise needs at least one input and one step: {self.noise}")

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        """Puts the noise behind the examples, as a set of its own."""
        if not isinstance(task, UnlearningTask) or not task.forget_classes:
            raise ValueError(f"{task.name!r} forgets no whole class, which UNSIR is about")
        check_float(sets.x, "UNSIR makes inputs by gradients")
        classes = jnp.asarray(task.forget_classes, sets.label.dtype)
        label = jnp.repeat(classes, self.noise.inputs)
        start = jax.random.normal(key, (len(label), *sets.x.shape[1:]), sets.x.dtype)
        noise = error_maximizing(self.noise, network.apply, network.params, start, label)
        weights = {name: jnp.pad(w, (0, len(label))) for name, w in sets.weights.items()}
        weights["noise"] = jnp.pad(jnp.ones(len(label)), (len(sets.label), 0))
        x, y = jnp.concatenate([sets.x, noise]), jnp.concatenate([sets.label, label])
        return replace(sets, x=x, label=y, weights=weights)

    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        impairs = step < self.impair * self.steps
        return batch.cross_entropy("retain") + impairs * batch.cross_entropy("noise")


@partial(jax.jit, static_argnums=(0, 1))
def error_maximizing(
    settings: NoiseSettings,
    apply: Apply,
    params: Params,
    start: Float[Array, "k ..."],
    label: Int[Array, " k"],
) -> Float[Array, "k ..."]:
    """Inputs of large loss and small size; see `NoiseSettings`.

    Args:
      settings: static.
      apply, params: of the network.
      start: the first inputs.
      label: theirs.
    """
    optimizer = optax.adam(settings.learning_rate)

    def cost(x: Array) -> Array:
        size = jnp.square(x).reshape(len(x), -1).sum(axis=1)
        return (settings.price * size - cross_entropy(apply(params, x), label)).mean()

    def step(carry: Any, _: None) -> tuple[Any, None]:
        x, state = carry
        updates, state = optimizer.update(jax.grad(cost)(x), state)
        return (optax.apply_updates(x, updates), state), None

    return jax.lax.scan(step, (start, optimizer.init(start)), length=settings.steps)[0][0]
