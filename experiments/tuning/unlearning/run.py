"""The trials of every search, all tasks side by side, and their scores."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.cached import cached_json
from experiments.common.options import RunOptions, SearchOptions, run_folder
from experiments.common.searching import make_world
from experiments.common.settings import make_search
from experiments.tuning.unlearning.config import TuneConfig
from experiments.unlearning.run import prepare
from modeledit_jax.editors.editor import run_updates, updates_within
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.report.summary import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.plan_evaluation import Measure, PlanEvaluator, set_accuracies
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key

GRIDS: dict[str, dict[str, tuple[float, ...]]] = {  # six trials each
    "ppo": {"population": (6, 10), "std": (0.3,), "step": (1.0, 1.5, 2.0)},
    "openes": {"population": (6, 10), "std": (0.3,), "step": (0.06, 0.1, 0.15)},
    "snes": {"population": (6, 10), "std": (0.3,), "step": (1.0, 1.5, 2.0)},
    "random-search": {"population": (20,), "std": (0.3, 0.7, 1.0, 1.4, 2.0, 3.0), "step": (0.0,)},
}
LONG_HORIZON = {"population": (10,), "std": (0.15, 0.3), "step": (0.2, 0.5, 1.25)}
"""Six trials of PPO for episodes of several edits, which add up."""


def trials(name: str, horizon: int = 1) -> Iterator[dict[str, float]]:
    """The settings of a search's grid."""
    grid = GRIDS[name] if horizon == 1 else LONG_HORIZON
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json``."""
    tasks = prepare(config).tasks
    grids: dict[str, Any] = {name: list(trials(name, config.horizon)) for name in config.searches}
    return write_tuning(config, run_trials(config, tasks, grids, set_accuracies, area))


def run_trials(
    config: SearchOptions,
    tasks: Sequence[Task],
    grids: Mapping[str, Sequence[Mapping[str, float]]],
    measure: Measure,
    judge_course: Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], float],
) -> dict[str, list[dict[str, Any]]]:
    """Runs all trials of all searches in all worlds.

    Args:
      config: options.
      tasks: edited side by side.
      grids: the settings to try by search.
      measure: what is known of an edit on ``select``.
      judge_course: ``({name: [B, K]}, the same of no edit [B, 1]) -> score``, higher is better.

    Returns:
      By search and world, the settings with their ``score``, best first.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for world in config.worlds:
        env = make_world(config, world, tasks[0])
        evaluator = PlanEvaluator(env, tasks, measure)
        params = evaluator.stacked_params()
        nothing = np.zeros((len(tasks), 1, config.horizon, env.edit.action_size), np.float32)
        base = evaluator.course(nothing, params, "select")
        keys = jax.random.split(jax.random.key(config.seed), len(tasks))
        for name, grid in grids.items():
            run = jax.jit(partial(run_trial, name, world, config, env), static_argnums=0)
            done = []
            for number, trial in enumerate(tqdm(grid, desc=f"{name}-{world}")):
                path = run_folder(config) / "trials" / f"{name}-{world}-{number}.json"
                plans = partial(run, int(trial["population"]), trial["std"], trial["step"])
                build = partial(_score, plans, evaluator, params, keys, base, judge_course)
                done.append({**trial, "score": cached_json(path, build)})
            found[f"{name}-{world}"] = sorted(done, key=lambda trial: -trial["score"])
    return found


def _score(
    plans: Callable[[WorldParams, Key], Array],
    evaluator: PlanEvaluator,
    params: WorldParams,
    keys: Key,
    base: Mapping[str, np.ndarray],
    judge_course: Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], float],
) -> float:
    return judge_course(evaluator.course(plans(params, keys), params, "select"), base)


def run_trial(
    name: str,
    world: str,
    config: SearchOptions,
    env: World,
    population: int,
    std: Array,
    step: Array,
    params: WorldParams,
    keys: Key,
) -> Array:
    """The course of one setting on all tasks: plans ``[B, K, T, A]``."""
    settings: dict[str, Any] = {"population": population, "std": std, "step": step}
    search = make_search(name, world, config.budget, horizon=config.horizon, **settings)
    updates = updates_within(search, config.budget)

    def one(params: WorldParams, key: Key) -> Array:
        return run_updates(search, env, params, search.init(env, params, key), updates)[1].plans

    return jax.vmap(one)(params, keys)


def area(course: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> float:
    """Area under the curve of the module's docstring, mean over tasks."""
    drop = np.maximum(base["retain"] - course["retain"], 0.0)
    return float(((1 - course["forget"]) * (1 - 10 * drop)).mean())


def write_tuning(config: RunOptions, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Writes ``tuning.json`` and prints the best settings; returns the path."""
    text = json.dumps({"config": as_json(config), "trials": found}, indent=2)
    path = run_folder(config) / "tuning.json"
    atomic_write_text(path, text + "\n")
    for name, done in found.items():
        print(name, *(f"{key}={value:g}" for key, value in done[0].items()))
    return path
