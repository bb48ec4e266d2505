"""Networks of one shape with their requests, and the test metrics of their edits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import LearnedEditor, planned
from modeledit_jax.envs.task_pool import TaskPool, make_pool
from modeledit_jax.envs.world import World
from modeledit_jax.evaluation.forgetting import relative_edit_size
from modeledit_jax.report.table import Row
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.tasks.task import Task


@dataclass(frozen=True)
class TaskBatch:
    """Networks of one shape with their requests, ready to be edited by policies of one kind.

    Attributes:
      env: world of all tasks.
      tasks: ``B``, network by network.
      seeds: of the network of each task.
    """

    env: World
    tasks: Sequence[Task]
    seeds: Sequence[int]

    @classmethod
    def of(cls, editor: LearnedEditor, tasks: Sequence[Task], seeds: Sequence[int]) -> "TaskBatch":
        """Tasks ``network by network`` of networks with these seeds."""
        each = np.repeat(list(seeds), len(tasks) // len(seeds))
        return cls(editor.make_world(tasks[0]), tasks, [int(seed) for seed in each])

    @cached_property
    def evaluator(self) -> PlanEvaluator:
        """Evaluates their edits on the test examples."""
        return PlanEvaluator(self.env, self.tasks)

    @cached_property
    def pool(self) -> TaskPool:
        """Their params."""
        return make_pool(self.env, self.tasks)

    @cached_property
    def original(self) -> list[dict[str, float]]:
        """Accuracies ``{set: value}`` of the unedited network of each task on test."""
        shape = (len(self.tasks), 1, self.env.horizon, self.env.edit.action_size)
        return self.accuracies(self.evaluator.curves(np.zeros(shape, np.float32), "test"))

    def accuracies(self, curves: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
        """Of each task, the last values of curves ``{set: [B, K]}``."""
        return [
            {name: float(values[index, -1]) for name, values in curves.items()}
            for index in range(len(self.tasks))
        ]

    def plans(self, editor: LearnedEditor) -> np.ndarray:
        """The policy's edits ``[B, T, A]``."""
        each = [
            planned(editor, self.env, self.pool.task(index))[0] for index in range(len(self.tasks))
        ]
        return np.stack(each)

    def metrics(self, plans: np.ndarray) -> list[dict[str, float]]:
        """Test metrics of one plan of every task, ``[B, T, A]``."""
        found = self.accuracies(self.evaluator.curves(plans[:, None], "test"))
        return [
            forget_retain_metrics(after, before) | {"edit_size": self._size(index, plan)}
            for index, (after, before, plan) in enumerate(
                zip(found, self.original, plans, strict=True)
            )
        ]

    def _size(self, index: int, plan: np.ndarray) -> float:
        leaves = self.evaluator.edited(index, plan)
        return float(relative_edit_size(self.tasks[index].leaves, leaves))

    def rows(
        self, method: str, metrics: Sequence[Mapping[str, float]], factors: Mapping[str, Any]
    ) -> list[Row]:
        """A row of each task for a method that has cost nothing."""
        return [
            Row(method, task.name, seed, values, Cost(), factors)
            for task, seed, values in zip(self.tasks, self.seeds, metrics, strict=True)
        ]


def forget_retain_metrics(
    after: Mapping[str, float], before: Mapping[str, float]
) -> dict[str, float]:
    """The metrics of a row from accuracies on the sets ``forget`` and ``retain``."""
    return {
        "forget_accuracy_test": after["forget"],
        "retain_accuracy_test": after["retain"],
        "retain_drop_test": before["retain"] - after["retain"],
    }
