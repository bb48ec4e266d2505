"""Edits without any reward evaluation: policies and closed-form editors on networks they meet."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from modeledit_jax.editors.editor import Cost, Editor
from modeledit_jax.editors.policy.learned import LearnedEditor, planned
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.evaluation.forgetting import relative_edit_size
from modeledit_jax.report.table import Row
from modeledit_jax.run.plan_evaluation import PlanEvaluator, set_accuracies
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
        env = editor.make_world(tasks[0])
        return cls(env, tasks, [int(seed) for seed in each])

    @cached_property
    def evaluator(self) -> PlanEvaluator:
        """Evaluates their edits on the test examples."""
        return PlanEvaluator(self.env, self.tasks)

    @cached_property
    def params(self) -> WorldParams:
        """Stacked, leading axis ``B``."""
        return self.evaluator.stacked_params()

    @cached_property
    def base(self) -> dict[str, np.ndarray]:
        """Accuracies ``{set: [B]}`` of the unedited networks on test."""
        shape = (len(self.tasks), 1, self.env.horizon, self.env.edit.action_size)
        found = self.evaluator.curves(np.zeros(shape, np.float32), "test")
        return {name: values[:, 0] for name, values in found.items()}

    def plans(self, editor: LearnedEditor) -> np.ndarray:
        """The policy's edits ``[B, T, A]``."""
        each = [
            planned(editor, self.env, jax.tree.map(lambda leaf, i=index: leaf[i], self.params))[0]
            for index in range(len(self.tasks))
        ]
        return np.stack(each)

    def evaluated(self, plans: np.ndarray) -> list[dict[str, float]]:
        """Test metrics of one plan of every task."""
        found = self.evaluator.curves(plans[:, None], "test")
        return [
            forget_retain_metrics(
                {name: float(values[index, 0]) for name, values in found.items()},
                {name: float(values[index]) for name, values in self.base.items()},
            )
            | {"edit_size": self._size(index, plan)}
            for index, plan in enumerate(plans)
        ]

    def _size(self, index: int, plan: np.ndarray) -> float:
        leaves = self.evaluator.edited(index, plan)
        return float(relative_edit_size(self.tasks[index].leaves, leaves))


def forget_retain_metrics(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """The metrics of a row from accuracies on the sets ``forget`` and ``retain``."""
    return {
        "forget_accuracy_test": after["forget"],
        "retain_accuracy_test": after["retain"],
        "retain_drop_test": before["retain"] - after["retain"],
    }


def policy_rows(name: str, editor: LearnedEditor, batch: TaskBatch) -> list[Row]:
    """Rows of a policy's edits."""
    found = batch.evaluated(batch.plans(editor))
    return [
        Row(name, task.name, seed, metrics, Cost())
        for task, seed, metrics in zip(batch.tasks, batch.seeds, found, strict=True)
    ]


def editor_rows(name: str, editor: Editor, batch: TaskBatch) -> list[Row]:
    """Rows of an editor that needs neither training nor evaluations."""
    rows = []
    for index, task in enumerate(tqdm(batch.tasks, desc=name, leave=False)):
        begin = time.perf_counter()
        params = jax.block_until_ready(editor.edit(task, jax.random.key(0)).params)
        seconds = time.perf_counter() - begin
        outputs = batch.evaluator.outputs(index, get_leaves(params, task.site), "test")
        sets = task.roles["test"]
        weights = {key: jnp.asarray(own) for key, own in sets.weights.items()}
        found = set_accuracies(jnp.asarray(outputs), jnp.asarray(sets.label), weights)
        metrics = forget_retain_metrics(
            {set_name: float(value) for set_name, value in found.items()},
            {set_name: float(values[index]) for set_name, values in batch.base.items()},
        )
        rows.append(Row(name, task.name, batch.seeds[index], metrics, Cost(seconds=seconds)))
    return rows


def original_rows(name: str, batch: TaskBatch) -> list[Row]:
    """Rows of the unedited networks."""
    return [
        Row(
            name,
            task.name,
            seed,
            forget_retain_metrics(*[{n: float(v[index]) for n, v in batch.base.items()}] * 2),
            Cost(),
        )
        for index, (task, seed) in enumerate(zip(batch.tasks, batch.seeds, strict=True))
    ]
