"""Rewards: how good is an edited network, judged by its outputs on named evaluation sets.

A reward is a function ``(sets, edit) -> score`` or ``-> (score, parts)``: ``sets`` maps a name
(``"retain"``, ``"forget"``, …) to a `SetOutputs`, ``edit`` says how far the weights have moved,
``parts`` is a dictionary of named scalars that are logged and shown to the agent. It runs inside
``jit`` and ``vmap``. The environment pays the *change* of the score at every step, so that the
rewards of an episode add up to the final improvement.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.evaluation import accuracy as metrics
from modeledit_jax.evaluation.forgetting import relative_edit_size
from modeledit_jax.types import Array, Field


@struct.dataclass
class PerExample:
    """What all sets of the same outputs have in common, so that it is computed once for all."""

    outputs: Field  # [N, C]
    targets: Field  # those of the sets
    correct: Field  # [N] bool
    probability: Field  # [N] float32, of the true class

    @classmethod
    def of(cls, outputs: Array, targets: Any) -> "PerExample | None":
        """None where the outputs are no logits of classes, or the targets hold no labels."""
        label = targets.label if hasattr(targets, "label") else targets
        fits = isinstance(label, jax.Array) and label.shape == outputs.shape[:1]
        if outputs.ndim != 2 or not fits or not jnp.issubdtype(label.dtype, jnp.integer):
            return None
        found = metrics.correct(outputs, label), metrics.true_class_probabilities(outputs, label)
        return cls(outputs, targets, *found)


@struct.dataclass
class SetOutputs:
    """Outputs of the edited network on one named set; every mean below is weighted."""

    outputs: Field  # [N, C] logits of the edited network
    original: Field  # [N, C] logits of the unedited network
    targets: Field  # [N] int32 labels, or a pytree of arrays that holds them as `label`
    weights: Field  # [N] membership of the set; examples of weight 0 are not in it
    per_example: Field = None  # `PerExample` of these outputs and targets, or None

    @property
    def _known(self) -> PerExample | None:
        """What is known of the outputs; nothing once they, or the targets, have been replaced."""
        known = self.per_example
        same = known and known.outputs is self.outputs and known.targets is self.targets
        return known if same else None

    @property
    def label(self) -> Array:
        """The labels, ``[N]`` int32."""
        return self.targets.label if hasattr(self.targets, "label") else self.targets

    def mean(self, values: Float[Array, " n"]) -> Float[Array, ""]:
        """Mean over the examples of the set, for a part of your own, e.g. one of `outputs`."""
        return metrics.weighted_mean(values, self.weights)

    def accuracy(self) -> Float[Array, ""]:
        """Fraction of the set that is classified correctly."""
        if known := self._known:
            return metrics.weighted_mean(known.correct, self.weights)
        return metrics.accuracy(self.outputs, self.label, self.weights)

    def probability(self) -> Float[Array, ""]:
        """Mean softmax probability of the true class."""
        if known := self._known:
            return self.mean(known.probability)
        return metrics.true_class_probability(self.outputs, self.label, self.weights)

    def cross_entropy(self) -> Float[Array, ""]:
        """Mean cross-entropy against the true class, in nats."""
        return metrics.cross_entropy(self.outputs, self.label, self.weights)


@struct.dataclass
class EditedWeights:
    """The edited leaves beside the unedited ones."""

    leaves: Field  # {path: edited leaf}
    original: Field  # {path: unedited leaf}

    def size(self) -> Float[Array, ""]:
        """Frobenius norm of the change relative to that of the unedited leaves."""
        return relative_edit_size(self.original, self.leaves)


Sets: TypeAlias = Mapping[str, SetOutputs]
RewardFunction: TypeAlias = Callable[[Sets, EditedWeights], Any]
Part: TypeAlias = Callable[[Sets, EditedWeights], Array]


@struct.dataclass
class Reward:
    """A reward function as a pytree, so that numeric weights can differ between tasks.

    ``minimum`` is what a network with non-finite outputs scores.
    """

    minimum: Field  # [] float32

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        """Returns the score (a scalar, higher is better) and its named parts."""
        raise TypeError("Reward is a base class; use WeightedSum or as_reward(function)")


@struct.dataclass
class WeightedSum(Reward):
    """``Σ weight · part``: named parts whose weights are arrays (sweep them with `jax.vmap`)."""

    weights: Field = struct.field(default_factory=dict)  # {name: [] float32}
    parts: tuple[tuple[str, Part], ...] = struct.field(pytree_node=False, default=())

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        values = {name: part(sets, edit) for name, part in self.parts}
        score = sum(self.weights[name] * value for name, value in values.items())
        return jnp.asarray(score), values


@struct.dataclass
class FunctionReward(Reward):
    """A user's function as a reward."""

    function: RewardFunction = struct.field(pytree_node=False, default=None)

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        result = self.function(sets, edit)
        score, parts = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
        if not isinstance(parts, Mapping):
            raise ValueError(
                f"the reward function returned {parts!r:.60} beside the score; return a score, or "
                "a score and a dictionary of numbers"
            )
        found = {str(name): _scalar(str(name), value) for name, value in parts.items()}
        return _scalar("score", score), found


def _scalar(name: str, value: Any) -> Array:
    """A number of a user's function; ValueError for anything else."""
    try:
        number = jnp.asarray(value, jnp.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"the reward function returned {name!r} as {value!r:.60}, of type "
            f"{type(value).__name__}; return a number, e.g. the mean over the examples"
        ) from error
    if number.shape != ():
        raise ValueError(
            f"the reward function returned {name!r} of shape {number.shape}; return scalars, e.g. "
            "the mean over the examples"
        )
    return number


def as_reward(function: RewardFunction | Reward, *, minimum: float = -1.0) -> Reward:
    """Returns ``function`` as a `Reward`; a `Reward` is returned as it is.

    Args:
      function: ``(sets, edit) -> score`` or ``-> (score, parts)``.
      minimum: score of a network whose outputs are not finite; at most the least score that
        ``function`` gives.
    """
    if isinstance(function, Reward):
        return function
    return FunctionReward(minimum=jnp.float32(minimum), function=function)
