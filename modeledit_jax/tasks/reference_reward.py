"""A reward for being as another network is, where there is one: a retrained one, say.

Forgetting has no natural end: a network that never saw an example knows something of it all the
same. Where a retrained network is at hand, an edit can be paid for what that one knows, and no
less. An edit of a network that cannot be retrained has no such reward.
"""

import jax.numpy as jnp
import numpy as np

from modeledit_jax import struct
from modeledit_jax.evaluation.accuracy import true_class_probability
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.tasks.reward import EditedWeights, Reward, Sets
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Field, Params


@struct.dataclass
class GapToReference(Reward):
    """``Σ over sets of 1 − |P − goal|``, ``P`` the mean probability of the true class."""

    goals: Field = struct.field(default_factory=dict)  # {set: [] float32}

    def __call__(self, sets: Sets, edit: EditedWeights) -> tuple[Array, dict[str, Array]]:
        gaps = {
            name: 1.0 - jnp.abs(sets[name].probability() - goal)
            for name, goal in self.goals.items()
        }
        return jnp.stack(list(gaps.values())).sum(), gaps


def gap_to_reference(task: Task, reference: Params) -> GapToReference:
    """The reward of a task for being as a given network on its examples of the reward.

    Args:
      task: supplies the examples; ``replace(task, reward=gap_to_reference(task, params))``.
      reference: of a network of the same kind.

    Returns:
      A reward of at least 0, at most the number of sets, which the reference gets.

    Raises:
      ValueError: the task's sets change from request to request.
    """
    if task.requests > 1:
        raise ValueError(
            f"{task.name!r} has {task.requests} requests, a reference is of one: give it the last"
        )
    sets = task.roles["reward"]
    outputs = jnp.asarray(role_outputs(task, reference, ("reward",))["reward"])
    goals = {
        name: true_class_probability(outputs, jnp.asarray(sets.label), jnp.asarray(weights))
        for name, weights in sets.weights.items()
    }
    return GapToReference(
        minimum=jnp.float32(0.0),
        goals={name: jnp.asarray(np.float32(goal)) for name, goal in goals.items()},
    )
