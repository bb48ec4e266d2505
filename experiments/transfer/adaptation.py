"""What a few reward evaluations add to a policy's edit, beside searches that start elsewhere.

All searches edit the same networks for the same requests: from the edit of a policy that never saw
either, from the mean of the edits that the policy makes on its training tasks, or from scratch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.settings import make_search
from experiments.transfer.config import Config
from experiments.transfer.policies import WORLDS
from experiments.transfer.zero_shot import TaskBatch, forget_retain_metrics
from modeledit_jax.editors.editor import Cost, Search, run_updates, updates_within
from modeledit_jax.editors.policy.learned import adaptation_config
from modeledit_jax.editors.search.ppo import PPOSearch
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.envs.worlds import make
from modeledit_jax.evaluation.targets import first_met, forgotten
from modeledit_jax.report.table import Row
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.types import Array, Key

POINTS = 40  # of a curve that are judged on the test examples
SEARCHES = ("ppo", "openes", "snes")

MakeSearch = Callable[[Any], Search]
"""The search that starts at an action; at its own start for None."""


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
    config: Config, world: str, batch: TaskBatch, policy: np.ndarray, mean: np.ndarray
) -> dict[str, Course]:
    """Runs all searches of the comparison.

    Args:
      config: budgets.
      world: ``"mask"`` or ``"shift"``.
      patients: ``B`` tasks.
      policy: the policies' edits of them, ``[B, A]``.
      mean: the mean edit of each policy's training tasks, ``[B, A]``.
    """
    setup = _Setup(config, world, batch)
    own, budget = batch.env.edit.parametrization, config.search_budget
    flat = make(WORLDS[world], batch.tasks[0], parametrization=own, observation="time")[0]
    scratch = make(WORLDS[world], batch.tasks[0], observation="time")[0]
    courses = {}
    for spent in config.budgets:
        search = partial(_from_policy, adaptation_config(spent, world))
        name = f"policy-{world}-plus-{spent}"
        courses[name] = setup.run(name, flat, search, spent, policy)
    for kind in SEARCHES:
        search = partial(_started, make_search(kind, world, budget))
        for name, env, starts in (
            (f"{kind}-{world}", scratch, None),
            (f"{kind}-{world}-from-mean-edit", flat, mean),
        ):
            courses[name] = setup.run(name, env, search, budget, starts)
    return courses


def _from_policy(ppo: Any, start: Any) -> Search:
    return PPOSearch(ppo, start=start)


def _started(search: Any, start: Any) -> Search:
    return search if start is None else replace(search, start=start)


@dataclass(frozen=True)
class _Setup:
    config: Config
    world: str
    batch: TaskBatch

    def run(
        self, name: str, env: World, search: MakeSearch, budget: int, starts: np.ndarray | None
    ) -> Course:
        """Runs a search on all tasks side by side and judges its course."""
        tasks = self.batch.tasks
        evaluator = PlanEvaluator(env, tasks)
        params = evaluator.stacked_params()
        keys = jax.random.split(jax.random.key(self.config.seed), len(tasks))
        updates = updates_within(search(None), budget)
        plans = np.asarray(_search(env, search, updates, params, starts, keys))
        kept = np.unique(np.linspace(0, updates - 1, min(POINTS, updates)).round().astype(int))
        curves = evaluator.course(plans[:, kept], params, "test")
        evaluations = (kept + 1) * search(None).evaluations_per_update
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


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(
    env: World,
    search: MakeSearch,
    updates: int,
    params: WorldParams,
    starts: Array | None,
    keys: Key,
) -> Array:
    """The plans of every task after every update, ``[B, K, T, A]``."""

    def one(params: WorldParams, start: Array | None, key: Key) -> Array:
        own = search(None if start is None else jnp.asarray(start))
        state = own.init(env, params, key)
        return run_updates(own, env, params, state, updates)[1].plans

    return jax.vmap(one, in_axes=(0, None if starts is None else 0, 0))(params, starts, keys)
