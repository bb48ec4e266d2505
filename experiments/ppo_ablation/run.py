"""Variants of PPO on the same tasks: each is run, evaluated on test, and put in a table."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.methods import method_context
from experiments.common.options import run_folder
from experiments.ppo_ablation.config import AblationConfig
from experiments.unlearning.run import Setup, prepare
from modeledit_jax.editors.search.ppo import PPO, editing_config
from modeledit_jax.evaluation.targets import first_met, forgotten, quantiles_of_needed
from modeledit_jax.presets.preset import load_preset
from modeledit_jax.report.markdown import MISSING, number, table_lines
from modeledit_jax.report.serialization import cached_rows
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, group_by, select
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.tasks.network import NonFiniteError

ADAM = {  # the settings of a one-step Gaussian PPO tuned with Adam
    "search_optimizer": "adam",
    "action_learning_rate": 0.03,
    "num_envs": 20,
    "num_epochs": 4,
    "schedule": "constant",
    "max_grad_norm": float("inf"),
}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "Adam instead of the natural gradient": ADAM,
    "4 epochs": {"num_epochs": 4},
    "constant step size": {"schedule": "constant"},
    "population 4": {"num_envs": 4},
    "population 20": {"num_envs": 20},
    "learned spread": {"std_learning_rate": 0.1},
    "weights observed": {"observation": "weights"},
    "horizon 2": {"horizon": 2},
    "horizon 2, time alone observed": {"horizon": 2, "observation": "time"},
    "horizon 4": {"horizon": 4},
    "horizon 4, time alone observed": {"horizon": 4, "observation": "time"},
}


def run(config: AblationConfig) -> Path:
    """Runs the ablation and writes its tables."""
    folder = run_folder(config)
    rows, notes = ablate(config)
    text = "\n\n".join(
        f"### {world}\n\n{variant_table(select(rows, method=f'ppo-{world}'))}"
        for world in config.worlds
    )
    text += "".join(f"\n\n- {note}" for note in notes)
    atomic_write_text(folder / "report.md", text + "\n")
    write_metrics_csv(folder, rows)
    write_summary(folder, "ppo-ablation", as_json(config), rows)
    print(text)
    return folder / "report.md"


def ablate(config: AblationConfig) -> tuple[list[Row], list[str]]:
    """Runs all variants.

    Returns:
      Their test results, and a line for every variant that diverged on a task, which has none.

    Raises:
      ValueError: all diverged.
    """
    searches = [variant_search(config, world, name) for world in config.worlds for name in VARIANTS]
    for search in searches:
        _ = search.updates  # raises at once what would show only after other variants
    setup = prepare(config, searches)
    rows: list[Row] = []
    notes = []
    for world in config.worlds:
        for index, name in enumerate(tqdm(VARIANTS, desc=f"variants in {world}")):
            path = run_folder(config) / "variants" / f"{world}-{index}.json"
            try:
                rows += cached_rows(path, partial(variant_rows, config, setup, world, name))
            except NonFiniteError as error:
                notes.append(f"{name} in {world} was left out, it diverged: {error}")
                tqdm.write(notes[-1], file=sys.stderr)
    if not rows:
        raise ValueError(f"all variants diverged: {notes[0]}")
    return rows, notes


def variant_search(config: AblationConfig, world: str, name: str) -> PPO:
    """PPO as a variant has it."""
    options = dict(VARIANTS[name])
    horizon = options.pop("horizon", 1)
    observation = options.pop("observation", None)
    base = editing_config(config.budget, horizon, world)
    size = options.get("num_envs", base.num_envs) * horizon
    settings = replace(base, **options, num_updates=config.budget // size)
    return load_preset(f"ppo-{world}", "unlearning").build(
        **(method_context(config) | {"horizon": horizon, "observation": observation}),
        config=settings,
    )


def variant_rows(config: AblationConfig, setup: Setup, world: str, name: str) -> list[Row]:
    """Runs one variant; returns a row for every task, with curves."""
    search = variant_search(config, world, name)
    keys = jax.random.split(jax.random.key(config.seed), len(setup.tasks))
    found = edit_many(search, setup.tasks, keys)
    plans = np.stack([result.trace.plans for result in found])
    evaluator = PlanEvaluator(search.make_world(setup.tasks[0]), setup.tasks)
    evaluations = search.evaluations_per_update * np.arange(1, plans.shape[1] + 1)
    return [
        Row(f"ppo-{world}", task.name, seed, metrics, result.cost, {"variant": name}, curves)
        for task, seed, result, (metrics, curves) in zip(
            setup.tasks, setup.seeds, found, evaluated(evaluator, plans, evaluations), strict=True
        )
    ]


def evaluated(
    evaluator: PlanEvaluator, plans: np.ndarray, evaluations: np.ndarray
) -> list[tuple[dict[str, float], dict[str, np.ndarray]]]:
    """Test metrics and curves of every task.

    Args:
      evaluator: of ``B`` tasks.
      plans: ``[B, K, T, A]`` on the way.
      evaluations: ``[K]`` reward evaluations spent.
    """
    base = evaluator.curves(np.zeros_like(plans[:, :1]), "test")["retain"]
    test = evaluator.curves(plans, "test")
    drop = base - test["retain"]
    needed = first_met(forgotten(test["forget"], test["retain"], base), evaluations)
    closeness = (1 - test["forget"]) * (1 - np.abs(drop))
    columns = {
        "forget_accuracy_test": test["forget"],
        "retain_drop_test": drop,
        "closeness": closeness,
    }
    return [
        (
            {name: float(values[index, -1]) for name, values in columns.items()}
            | {"evaluations_to_target": float(needed[index])},
            {"reward_evaluations": evaluations}
            | {name: values[index] for name, values in columns.items()},
        )
        for index in range(len(plans))
    ]


def variant_table(rows: Sequence[Row]) -> str:
    """The rows of a world in Markdown, a line for every variant."""
    header = (
        "variant", "forget %: mean", "worst", "retain drop, points: mean", "worst", "solved",
        "median evaluations to target", "90th percentile",
    )  # fmt: skip
    lines = []
    for name, runs in group_by(rows, "variant").items():
        cells = [name]
        for metric in ("forget_accuracy_test", "retain_drop_test"):
            values = [row.metrics[metric] for row in runs]
            cells += [number(v, percent=True) for v in (float(np.mean(values)), max(values))]
        needed = np.array([row.metrics["evaluations_to_target"] for row in runs])
        quantiles = quantiles_of_needed(needed, (0.5, 0.9))
        cells += [
            str(np.isfinite(needed).sum()),
            *(f"{value:,.0f}" if np.isfinite(value) else MISSING for value in quantiles),
        ]
        lines.append(cells)
    return "\n".join(table_lines(header, lines))
