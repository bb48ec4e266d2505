"""Variants of PPO on the same tasks: each is run, evaluated on test, and put in a table."""

import json
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
from modeledit_jax.editors.search.ppo import editing_config
from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.evaluation.targets import first_met, forgotten, quantiles_of_needed
from modeledit_jax.presets.preset import load_preset
from modeledit_jax.report.markdown import table_lines
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text, cached_json
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.plan_evaluation import PlanEvaluator

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
    "time alone observed": {"observation": "time"},
    "horizon 2": {"horizon": 2},
    "horizon 2, time alone observed": {"horizon": 2, "observation": "time"},
    "horizon 4": {"horizon": 4},
    "horizon 4, time alone observed": {"horizon": 4, "observation": "time"},
}


def run(config: AblationConfig) -> Path:
    """Runs the ablation and writes its tables."""
    found = ablate(config)
    text = "\n\n".join(f"### {world}\n\n{table(rows)}" for world, rows in found.items())
    content = json.dumps({"config": as_json(config), "variants": found}, indent=2)
    atomic_write_text(run_folder(config) / "ablation.json", content + "\n")
    atomic_write_text(run_folder(config) / "ablation.md", text + "\n")
    print(text)
    return run_folder(config) / "ablation.md"


def ablate(config: AblationConfig) -> dict[str, list[dict[str, Any]]]:
    """Runs all variants; returns their test results by world."""
    setup = prepare(config)
    found: dict[str, list[dict[str, Any]]] = {}
    for world in config.worlds:
        found[world] = []
        for number, name in enumerate(tqdm(VARIANTS, desc=f"variants in {world}")):
            path = run_folder(config) / "variants" / f"{world}-{number}.json"
            row = cached_json(path, partial(variant_row, config, setup, world, name))
            found[world].append(row)
    return found


def variant_row(config: AblationConfig, setup: Setup, world: str, name: str) -> dict[str, Any]:
    """Runs one variant; returns its test results."""
    options = dict(VARIANTS[name])
    horizon = options.pop("horizon", 1)
    observation = options.pop("observation", "weights")
    base = editing_config(config.budget, horizon, world)
    size = options.get("num_envs", base.num_envs) * horizon
    settings = replace(base, **options, num_updates=config.budget // size)
    search = load_preset(f"ppo-{world}", "unlearning").build(
        **(method_context(config) | {"horizon": horizon, "observation": observation}),
        config=settings,
    )
    keys = jax.random.split(jax.random.key(config.seed), len(setup.tasks))
    plans = np.stack([result.trace.plans for result in edit_many(search, setup.tasks, keys)])
    evaluator = PlanEvaluator(search.make_world(setup.tasks[0]), setup.tasks)
    shape = (config.seeds, len(setup.tasks) // config.seeds)
    return {"variant": name, **evaluated(evaluator, plans, size, shape)}


def evaluated(
    evaluator: PlanEvaluator,
    plans: np.ndarray,
    per_update: int,
    shape: tuple[int, int],
) -> dict[str, Any]:
    """Test results of one variant."""
    nothing = np.zeros_like(plans[:, :1])
    base = evaluator.curves(nothing, "test")["retain"]
    test = evaluator.curves(plans, "test")
    drop = base - test["retain"]
    met = forgotten(test["forget"], test["retain"], base)
    needed = first_met(met, per_update * np.arange(1, met.shape[1] + 1))
    last = (1 - test["forget"][:, -1]) * (1 - np.abs(drop[:, -1]))
    interval = stratified_bootstrap(last.reshape(shape))
    median, late = quantiles_of_needed(needed, (0.5, 0.9))
    return {
        "forget_mean": float(test["forget"][:, -1].mean()),
        "forget_worst": float(test["forget"][:, -1].max()),
        "drop_mean": float(drop[:, -1].mean()),
        "drop_worst": float(drop[:, -1].max()),
        "closeness": list(interval),
        "solved": int(np.isfinite(needed).sum()),
        "median": median if np.isfinite(median) else None,
        "p90": late if np.isfinite(late) else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown; percent where the header says so."""
    header = (
        "variant", "forget %: mean", "worst", "retain drop, points: mean", "worst", "solved",
        "median evaluations to target", "90th percentile",
    )  # fmt: skip
    lines = []
    for row in rows:
        percents = [
            f"{100 * row[name]:.2f}" for name in row if name.split("_")[0] in ("forget", "drop")
        ]
        counts = [
            str(row["solved"]),
            *(f"{row[q]:,.0f}" if row[q] else "–" for q in ("median", "p90")),
        ]
        lines.append([row["variant"], *percents, *counts])
    return "\n".join(table_lines(header, lines))
