"""NegGrad+: gradient descent on what is kept, ascent on what is to be forgotten.

The strong and simple baseline of gradient-based unlearning (Kurmanji et al. 2023, *Towards
Unbounded Machine Unlearning*, arXiv 2302.09880, there "NegGrad+"), here on the leaves of the site
alone, so that it edits what a policy edits. It reads the ``train`` role, as retraining does.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import Features, cached_features, split_apply
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Apply, Array, Key, Leaves, Params


@dataclass(frozen=True)
class NegGradPlus:
    """SGD with momentum on ``alpha · E_retain ℓ − (1 − alpha) · E_forget ℓ``, ``ℓ`` cross-entropy.

    Batches are drawn from all training examples, with replacement; means are over a batch's own.

    Attributes:
      alpha: weight of what is kept, in (0, 1). The published 0.95 is for whole networks; where one
        layer alone may change it takes much of the rest along.
      learning_rate: at the first step; it falls to zero along a cosine.
      momentum: of the steps.
      steps: of the optimizer.
      batch_size: examples of a step, of both kinds together.
    """

    alpha: float = 0.995
    learning_rate: float = 0.01
    momentum: float = 0.9
    steps: int = 2000
    batch_size: int = 128

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network.

        Args:
          task: with the sets ``retain`` and ``forget`` in its ``train`` role.
          key: draws the batches.

        Raises:
          ValueError: ``alpha`` out of range, or nothing to retain or to forget.
        """
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, got {self.alpha}")
        begin = time.perf_counter()
        subject, sets = task.subject, task.roles["train"]
        retain, forget = (np.asarray(sets.weights.get(name, [0.0])) for name in _SETS)
        if min(retain.sum(), forget.sum()) <= 0:
            raise ValueError(
                f"{task.name!r} has no examples to retain or none to forget in its train role: "
                "NegGrad+ takes a task of forget_classes or forget_samples"
            )
        x, label = jnp.asarray(sets.x), jnp.asarray(sets.label)
        features = cached_features(subject.apply, subject.params, x, task.site)
        setup = (self, subject.apply, task.site)
        weights = (jnp.asarray(retain), jnp.asarray(forget))
        leaves = _fit(setup, subject.params, x[:1], features, label, weights, key)
        params = jax.block_until_ready(set_leaves(subject.params, leaves))
        return checked(task, EditResult(params, Cost(0, self.steps, time.perf_counter() - begin)))


_SETS = ("retain", "forget")


@partial(jax.jit, static_argnums=0)
def _fit(
    setup: tuple[NegGradPlus, Apply, tuple[str, ...]],
    params: Params,
    example: Array,
    features: Features,
    label: Int[Array, " n"],
    weights: tuple[Float[Array, " n"], Float[Array, " n"]],
    key: Key,
) -> Leaves:
    """The leaves after all steps; nothing but the first argument is compiled in."""
    editor, apply, paths = setup
    suffix = split_apply(apply, params, example, paths).suffix
    leaves = get_leaves(params, paths)
    schedule = optax.cosine_decay_schedule(editor.learning_rate, editor.steps)
    optimizer = optax.sgd(schedule, momentum=editor.momentum)

    def loss(leaves: Leaves, rows: Array) -> Array:
        batch = jax.tree.map(lambda feature: feature[rows], features.per_example)
        losses = cross_entropy(suffix(leaves, replace(features, per_example=batch)), label[rows])
        kept, lost = (_mean(losses, weight[rows]) for weight in weights)
        return editor.alpha * kept - (1.0 - editor.alpha) * lost

    def step(carry: Any, key: Key) -> tuple[Any, None]:
        leaves, state = carry
        rows = jax.random.randint(key, (editor.batch_size,), 0, len(label))
        updates, state = optimizer.update(jax.grad(loss)(leaves, rows), state, leaves)
        return (optax.apply_updates(leaves, updates), state), None

    start = (leaves, optimizer.init(leaves))
    (leaves, _), _ = jax.lax.scan(step, start, jax.random.split(key, editor.steps))
    return leaves


def _mean(losses: Float[Array, " b"], weight: Float[Array, " b"]) -> Float[Array, ""]:
    """Weighted mean; 0 where a batch holds no example of weight."""
    return (weight * losses).sum() / jnp.maximum(weight.sum(), 1.0)
