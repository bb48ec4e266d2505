"""What a few reward evaluations add to a policy's edit, beside searches that start elsewhere.

All searches edit the same networks for the same requests: from the edit of a policy that never saw
either, from the mean of the edits that the policy makes on its training tasks, or from scratch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from experiments.transfer.config import Config
from experiments.transfer.zero_shot import TaskBatch, forget_retain_metrics
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import LearnedEditor, policy_parametrization
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.evaluation.targets import first_met, forgotten
from modeledit_jax.presets.preset import preset
from modeledit_jax.report.table import Row
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.plan_evaluation import PlanEvaluator

POINTS = 40  # of a curve that are judged on the test examples
SEARCHES = ("ppo", "openes", "snes")


@dataclass(frozen=True)
class Course:
    """A search on ``B`` tasks.

    Attributes:
      rows: one per task, of the final edit.
      evaluations: ``[K]``, spent at each point.
      curves: ``{set: [B, K]}`` accuracies on test.
    """

    rows: list[Row]
    evaluations: np.ndarray
    curves: dict[str, np.ndarray]


def adapted(
    config: Config,
    editor: LearnedEditor,
    batch: TaskBatch,
    policy: np.ndarray,
    mean: np.ndarray,
) -> dict[str, Course]:
    """Runs all searches of the comparison.

    Args:
      config: budgets.
      world: ``"mask"`` or ``"shift"``.
      patients: ``B`` tasks.
      policy: the policies' edits of them, ``[B, A]``.
      mean: the mean edit of each policy's training tasks, ``[B, A]``.
    """
    world = editor.world
    setup = _Setup(config, world, batch)
    courses = {}
    for spent in config.budgets:
        name = f"policy-{world}-plus-{spent}"
        starts = [editor.adaptation_search(spent, jnp.asarray(start)) for start in policy]
        courses[name] = setup.run(name, starts)
    for kind in SEARCHES:
        scratch = preset(
            f"unlearning/{kind}-{world}", budget=config.search_budget, observation="time"
        )
        flat = replace(scratch, parametrization=policy_parametrization(editor.network))
        for name, searches in (
            (f"{kind}-{world}", [scratch] * len(mean)),
            (
                f"{kind}-{world}-from-mean-edit",
                [replace(flat, start=jnp.asarray(start)) for start in mean],
            ),
        ):
            courses[name] = setup.run(name, searches)
    return courses


@dataclass(frozen=True)
class _Setup:
    config: Config
    world: str
    batch: TaskBatch

    def run(self, name: str, searches: Sequence[SearchEditor]) -> Course:
        """Runs a search on all tasks side by side and evaluates it on the way."""
        tasks, search = self.batch.tasks, searches[0]
        keys = jax.random.split(jax.random.key(self.config.seed), len(tasks))
        found = edit_many(searches, tasks, keys)
        updates = search.updates
        kept = np.unique(np.linspace(0, updates - 1, min(POINTS, updates)).round().astype(int))
        plans = np.stack([result.trace.plans[kept] for result in found])
        evaluator = PlanEvaluator(search.make_world(tasks[0]), tasks)
        curves = evaluator.curves(plans, "test")
        evaluations = (kept + 1) * search.evaluations_per_update
        return Course(self._rows(name, curves, evaluations), evaluations, curves)

    def _rows(self, name: str, curves: dict[str, np.ndarray], evaluations: np.ndarray) -> list[Row]:
        base = self.batch.base
        needed = evaluations_to_target(curves, base, evaluations)
        rows = []
        for index, task in enumerate(self.batch.tasks):
            metrics = forget_retain_metrics(
                {set_name: float(values[index, -1]) for set_name, values in curves.items()},
                {set_name: float(values[index]) for set_name, values in base.items()},
            )
            metrics["evaluations_to_target"] = float(needed[index])
            cost = Cost(reward_evaluations=int(evaluations[-1]))
            rows.append(Row(name, task.name, self.batch.seeds[index], metrics, cost))
        return rows


def evaluations_to_target(
    curves: dict[str, np.ndarray], base: dict[str, np.ndarray], evaluations: np.ndarray
) -> np.ndarray:
    """Reward evaluations ``[B]`` until the target is first met; NaN if never."""
    met = forgotten(curves["forget"], curves["retain"], base["retain"][:, None])
    return first_met(met, evaluations)
