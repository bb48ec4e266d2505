"""Runs the searches of an experiment in one world, all tasks side by side, and judges them."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from modeledit_jax.run.loop import SearchRun, run_search
from tqdm import tqdm

from experiments.common.options import SearchOptions, run_folder
from experiments.common.settings import TUNED, make_search
from modeledit_jax.editors.editor import Cost, Search, SearchTrace, updates_within
from modeledit_jax.edits.parametrization import (
    LowRank,
    Parametrization,
    PerColumn,
    PerRow,
    PerWeight,
)
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.envs.worlds import WORLDS
from modeledit_jax.run.plan_evaluation import Measure, PlanEvaluator, set_accuracies
from modeledit_jax.run.scalars import ScalarWriter
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Leaves


@dataclass(frozen=True)
class Result:
    """One editor on all ``B`` tasks.

    Searches also have the edited leaves, and the course of the search at ``K`` updates.
    """

    editor: str
    outputs: Sequence[Mapping[str, np.ndarray]]  # of each task: {role: logits [N, C]}
    costs: Sequence[Cost]
    leaves: Sequence[Leaves] | None = None
    evaluations: np.ndarray | None = None  # [K] reward evaluations spent
    score: np.ndarray | None = None  # [B, K] mean score of the candidates
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)  # {name: [B, K]} on test


def make_parametrization(config: SearchOptions) -> Parametrization:
    """Returns the parametrization named on the command line."""
    kinds: dict[str, Parametrization] = {
        "low-rank": LowRank(config.rank),
        "per-weight": PerWeight(),
        "per-row": PerRow(),
        "per-column": PerColumn(),
    }
    return kinds[config.parametrization]


def check_searches(config: SearchOptions) -> None:
    """Raises at once what the searches themselves would find only after all training.

    Raises:
      ValueError: a rank below 1, or a budget that does not pay for one update of a search.
    """
    make_parametrization(config)
    for world, name in itertools.product(config.worlds, config.searches):
        search = make_search(name, world, config.budget, horizon=config.horizon)
        updates_within(search, config.budget)


def make_world(config: SearchOptions, world: str, task: Task) -> World:
    """Returns MaskWorld or ShiftWorld with the options of the command line."""
    return WORLDS[f"{world.capitalize()}World-v0"](
        task,
        parametrization=make_parametrization(config),
        horizon=config.horizon,
        observation=config.observation,
    )


def search_world(
    config: SearchOptions,
    world: str,
    tasks: Sequence[Task],
    roles: Sequence[str],
    measure: Measure = set_accuracies,
    tuned: Mapping[str, Mapping[str, float]] = TUNED,
) -> list[Result]:
    """Runs every search in one world.

    Args:
      config: resolved options.
      world: ``"mask"`` or ``"shift"``.
      tasks: edited side by side.
      roles: whose outputs the results hold.
      measure: what the course of a search reports, on ``select`` as it runs and on ``test`` after.
      tuned: settings of the searches (`make_search`).
    """
    env = make_world(config, world, tasks[0])
    evaluator = PlanEvaluator(env, tasks, measure)
    params = evaluator.stacked_params()
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(config.seed)))(
        jnp.arange(len(tasks))
    )
    results = []
    for search_name in config.searches:
        name = f"{search_name}-{world}"
        search = make_search(search_name, world, config.budget, horizon=config.horizon, tuned=tuned)
        with ProgressReport(name, config, evaluator, params) as report:
            found = run_search(
                search,
                env,
                params,
                keys,
                config.budget,
                folder=run_folder(config) / "checkpoints" / name,
                report=report,
            )
        results.append(_evaluated(name, evaluator, params, search, found, roles))
    return results


def _evaluated(
    name: str,
    evaluator: PlanEvaluator,
    params: WorldParams,
    search: Search,
    found: SearchRun,
    roles: Sequence[str],
) -> Result:
    """Evaluates what a search found, and its course, on the roles it has not seen."""
    plans = found.trace.plans
    leaves = [evaluator.edited(index, plan[-1], params) for index, plan in enumerate(plans)]
    return Result(
        name,
        [
            {role: evaluator.outputs(index, own, role) for role in roles}
            for index, own in enumerate(leaves)
        ],
        [found.cost] * len(leaves),
        leaves=leaves,
        evaluations=np.arange(1, plans.shape[1] + 1) * search.evaluations_per_update,
        score=np.asarray(found.trace.metrics["score"]),
        curves=evaluator.curves(plans, params, "test"),
    )


class ProgressReport:
    """Progress bar and TensorBoard scalars of one search."""

    def __init__(self, name: str, config: SearchOptions, evaluator: PlanEvaluator, params: Any):
        self._name, self._judge, self._params = name, evaluator, params
        self._bar = tqdm(desc=name, unit="update")
        self._scalars = ScalarWriter(
            run_folder(config) / "tensorboard" if config.tensorboard else None
        )

    def __enter__(self) -> "ProgressReport":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
        self._scalars.close()

    def __call__(self, done: int, total: int, trace: SearchTrace) -> None:
        """Shows the reward of the last update and how the present edit does on ``select``."""
        found = self._judge.curves(trace.plans[:, -1:], self._params, "select")
        values = {"score": float(trace.metrics["score"][:, -1].mean())}
        values |= {name: float(value.mean()) for name, value in found.items()}
        self._bar.total = total
        self._bar.n = done
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()})
        for name, value in values.items():
            self._scalars.write(f"{self._name}/{name}", value, done)
