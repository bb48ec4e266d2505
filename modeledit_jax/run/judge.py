"""Judges edited networks on the roles that no environment holds.

An edit changes the site's leaves alone, so the prefix of every network runs once per role and the
judge replays the suffix for each edit: the learning curves of a whole experiment (thousands of
edits on the test set) take seconds.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.edits.partial import Features
from modeledit_jax.envs.world import World, WorldParams, stack_params
from modeledit_jax.evaluation.accuracy import accuracy
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Leaves


class Judge:
    """Evaluates edits of one world's tasks on any role.

    Args:
      env: the world whose leaves the edits change.
      tasks: the ``B`` tasks, in the order of the stacked params.
    """

    def __init__(self, env: World, tasks: Sequence[Task]):
        self._env, self._tasks = env, list(tasks)
        self._features: dict[tuple[int, str, int], Features] = {}
        self._outputs = jax.jit(env.outputs)
        self._apply_plan = jax.jit(env.apply_plan)
        self._accuracies = jax.jit(self._plan_accuracies)

    def stacked_params(self) -> WorldParams:
        """The world's params of all tasks, stacked; tasks of one subject share its features."""
        return stack_params(
            [
                self._env.params(task, self.features(index, "reward"))
                for index, task in enumerate(self._tasks)
            ]
        )

    def edited(self, index: int, plan: Float[Any, "t a"], params: WorldParams) -> Leaves:
        """The leaves of task ``index``'s network after the edits of a plan."""
        original = jax.tree.map(lambda leaf: leaf[index], params.original)
        return self._apply_plan(jnp.asarray(plan), original)

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
        return np.asarray(self._outputs(leaves, self.features(index, role)))

    def accuracies(
        self, plans: Float[Any, "b k t a"], params: WorldParams, role: str
    ) -> dict[str, Float[np.ndarray, "b k"]]:
        """Accuracy of ``K`` plans of every task on each named set of a role.

        Args:
          plans: of every task, e.g. those of a search's trace.
          params: stacked params of the world.
          role: ``"select"`` or ``"test"``, mostly.
        """
        rows = []
        for index, task in enumerate(self._tasks):
            sets = task.roles[role]
            own = jax.tree.map(lambda leaf, index=index: leaf[index], params.original)
            features = self.features(index, role)
            weights = {name: jnp.asarray(w) for name, w in sets.weights.items()}
            rows.append(
                self._accuracies(
                    jnp.asarray(plans[index]), own, features, jnp.asarray(sets.targets), weights
                )
            )
        return jax.tree.map(lambda *values: np.stack(values), *jax.device_get(rows))

    def _plan_accuracies(
        self, plans: Array, original: Leaves, features: Features, targets: Array, weights: Any
    ) -> dict[str, Array]:
        def judge(plan: Array) -> dict[str, Array]:
            logits = self._env.outputs(self._env.apply_plan(plan, original), features)
            return jax.tree.map(partial(accuracy, logits, targets), weights)

        return jax.lax.map(judge, plans, batch_size=8)
