"""Evaluates edited networks on the roles that no environment holds.

An edit changes the site's leaves alone, so the prefix of every network runs once per role and the
evaluator replays the suffix for each edit: the learning curves of a whole experiment (thousands of
edits on the test set) take seconds.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.edits.split_apply import Features, run_suffix
from modeledit_jax.envs.world import World
from modeledit_jax.evaluation.accuracy import accuracies
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Leaves

Measure: TypeAlias = Callable[[Array, Any, dict[str, Array]], dict[str, Array]]
"""``(outputs [N, C], targets, weights {set: [N]}) -> {name: []}``, pure: numbers of one edit."""


class PlanEvaluator:
    """Evaluates edits of one world's tasks on any role.

    Args:
      env: the world whose leaves the edits change.
      tasks: the ``B`` tasks, in the order of the stacked params.
      measure: what `curves` reports of an edit.
    """

    def __init__(self, env: World, tasks: Sequence[Task], measure: Measure = accuracies):
        self._env, self._tasks, self._measure = env.static, list(tasks), measure
        self._features: dict[tuple[int, str, int], Features] = {}

    def edited(self, index: int, plan: Float[Any, "t a"]) -> Leaves:
        """The leaves of task ``index``'s network after the edits of a plan."""
        return apply_plan(self._env, jnp.asarray(plan), *self._unedited(index))

    def _unedited(self, index: int) -> tuple[Leaves, Leaves | None]:
        """The unedited leaves and the bases of a task's edits (`World.apply_plan`)."""
        leaves = {path: jnp.asarray(leaf) for path, leaf in self._tasks[index].leaves.items()}
        if self._env.coordinates == "weights":
            return leaves, None
        return leaves, self._env.bases(leaves, self.features(index, "reward"))

    def features(self, index: int, role: str) -> Features:
        """Cached prefix of task ``index``'s network on a role's examples."""
        task = self._tasks[index]
        # Tasks of one subject that share a role's examples share the features too.
        key = (id(task.subject), role, id(task.roles[role].x))
        if key not in self._features:
            self._features[key] = self._env.features(task.subject, task.roles[role])
        return self._features[key]

    def outputs(self, index: int, leaves: Leaves, role: str) -> Float[np.ndarray, "n c"]:
        """Logits of task ``index``'s network with these leaves on a role's examples."""
        features = self.features(index, role)
        return np.asarray(run_suffix(self._env.split, leaves, features))

    def curves(
        self, plans: Float[Any, "b k t a"], role: str
    ) -> dict[str, Float[np.ndarray, "b k"]]:
        """What `measure` says of ``K`` plans of every task.

        Args:
          plans: of every task, e.g. those of a search's trace.
          role: ``"select"`` or ``"test"``, mostly.
        """
        found = []
        for index, task in enumerate(self._tasks):
            sets = task.roles[role]
            targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
            features = self.features(index, role)
            unedited = self._unedited(index)
            data = (jnp.asarray(plans[index]), unedited, features, targets, weights)
            found.append(_measured(self._env, self._measure, *data))
        return jax.tree.map(lambda *values: np.stack(values), *jax.device_get(found))


@partial(jax.jit, static_argnums=0)
def apply_plan(env: World, plan: Array, original: Leaves, bases: Leaves | None = None) -> Leaves:
    """`World.apply_plan`, compiled once for equal worlds."""
    return env.apply_plan(plan, original, bases)


@partial(jax.jit, static_argnums=(0, 1))
def _measured(
    env: World,
    measure: Measure,
    plans: Array,
    unedited: tuple[Leaves, Leaves | None],
    features: Features,
    targets: Any,
    weights: dict[str, Array],
) -> dict[str, Array]:
    """What ``measure`` says of every plan of one task."""

    def evaluate(plan: Array) -> dict[str, Array]:
        outputs = env.outputs(env.apply_plan(plan, *unedited), features)
        return measure(outputs, targets, weights)

    return jax.lax.map(evaluate, plans, batch_size=8)
