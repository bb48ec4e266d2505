"""Reference editors: what every learned edit has to be read beside.

*Original* does nothing. *Logit mask* switches the forgotten classes off at the output, which
"solves" class forgetting without touching what the network knows. *Retrain* is the gold standard:
trained from scratch without the forgotten examples; a second one with another seed shows how far
two such networks differ by chance.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.subjects.training import TrainingConfig, gradient_steps, train_classifier
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.types import Array, Examples, Key, Params

MASKED_LOGIT = -1e4
"""Bias of a masked class: its float32 softmax probability is exactly 0, and nothing overflows."""


@dataclass(frozen=True)
class Original:
    """The unedited network."""

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the parameters as they are; ``key`` is not used."""
        del key
        return EditResult(task.subject.params, Cost())


@dataclass(frozen=True)
class LogitMask:
    """Sets the output bias of the forgotten classes to `MASKED_LOGIT`."""

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the masked network; ``key`` is not used.

        Raises:
          ValueError: the task does not forget whole classes, or names no output bias.
        """
        del key
        begin = time.perf_counter()
        if not isinstance(task, UnlearningTask) or not task.forget_classes or not task.head_bias:
            raise ValueError(
                f"the task {task.name!r} forgets no whole class or has no head_bias; "
                "a logit mask does not apply: leave it out"
            )
        bias = get_leaves(task.subject.params, [task.head_bias])[task.head_bias]
        masked = jnp.asarray(bias).at[jnp.asarray(task.forget_classes)].set(MASKED_LOGIT)
        params = set_leaves(task.subject.params, {task.head_bias: masked})
        return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin)))


@dataclass(frozen=True)
class Retrain:
    """Trains the same network from scratch on the retained training examples.

    Attributes:
      module: the network of the subject.
      training: the recipe the subject was trained with.
      train: trains one network; the default suits the project's classifiers.
    """

    module: nn.Module
    training: TrainingConfig = field(default_factory=TrainingConfig)
    train: Callable[..., Params] = train_classifier

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the retrained network; no reward is evaluated."""
        begin = time.perf_counter()
        sets = task.roles["train"]
        examples = Examples(jnp.asarray(sets.x), jnp.asarray(sets.label))

        retain = jnp.asarray(sets.weights["retain"])
        params = jax.block_until_ready(_train(self, examples, key, retain))
        steps = gradient_steps(self.training, len(examples))
        return checked(
            task,
            EditResult(params, Cost(gradient_steps=steps, seconds=time.perf_counter() - begin)),
        )


@partial(jax.jit, static_argnums=0)
def _train(retrain: Retrain, examples: Examples, key: Key, weights: Array) -> Params:
    # Outside the method, so that the next task of equal shapes finds it compiled.
    return retrain.train(retrain.module, examples, retrain.training, key, weights)
