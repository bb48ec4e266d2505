"""Variants of PPO on the same tasks: each is run, evaluated on test, and put in a table."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from experiments.common.methods import method_context
from experiments.common.options import run_folder
from experiments.ppo_ablation.config import AblationConfig
from experiments.ppo_ablation.variants import DEFAULT, QUESTIONS, Variant
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


def run(config: AblationConfig) -> Path:
    """Runs the ablation and writes its tables."""
    folder = run_folder(config)
    rows, notes = ablate(config)
    text = "\n\n".join(
        f"### {world}: {question}\n\n{variant_table(_of(rows, world, question))}"
        for world in config.worlds
        for question in config.questions
    )
    text += "".join(f"\n\n- {note}" for note in notes)
    atomic_write_text(folder / "report.md", text + "\n")
    write_metrics_csv(folder, rows)
    write_summary(folder, "ppo-ablation", as_json(config), rows)
    print(text)
    return folder / "report.md"


def _of(rows: Sequence[Row], world: str, question: str) -> list[Row]:
    """The default in a world, and the variants that a question is about."""
    about = (DEFAULT, *QUESTIONS[question])
    return [row for row in select(rows, method=f"ppo-{world}") if row.factors["variant"] in about]


def chosen_variants(config: AblationConfig) -> dict[str, Variant]:
    """The default and what is compared with it, by name."""
    found = {DEFAULT: Variant()}
    for question in config.questions:
        found |= QUESTIONS[question]
    return found


def ablate(config: AblationConfig) -> tuple[list[Row], list[str]]:
    """Runs all variants.

    Returns:
      Their test results, and a line for every variant that diverged on a task, which has none.

    Raises:
      ValueError: all diverged.
    """
    variants = chosen_variants(config)
    searches = [
        variant_search(config, world, variant)
        for world in config.worlds
        for variant in variants.values()
    ]
    for search in searches:
        _ = search.updates  # raises at once what would show only after other variants
    setup = prepare(config, searches)
    rows: list[Row] = []
    notes = []
    for world in config.worlds:
        for name, variant in tqdm(variants.items(), desc=f"variants in {world}"):
            path = run_folder(config) / "variants" / f"{world}-{file_name(name)}.json"
            build = partial(variant_rows, config, setup, world, name, variant)
            try:
                rows += cached_rows(path, build)
            except NonFiniteError as error:
                notes.append(f"{name} in {world} was left out, it diverged: {error}")
                tqdm.write(notes[-1], file=sys.stderr)
    if not rows:
        raise ValueError(f"all variants diverged: {notes[0]}")
    return rows, notes


def file_name(variant: str) -> str:
    """A variant's name as a part of a file's."""
    return re.sub(r"[^a-z0-9]+", "-", variant.lower()).strip("-")


def variant_search(config: AblationConfig, world: str, variant: Variant) -> PPO:
    """PPO as a variant has it."""
    horizon = variant.search.get("horizon", 1)
    base = editing_config(config.budget, horizon, world)
    size = variant.ppo.get("num_envs", base.num_envs) * horizon
    settings = replace(base, **variant.ppo, num_updates=config.budget // size)
    context = method_context(config) | {"horizon": 1, "observation": None} | dict(variant.search)
    return load_preset(f"ppo-{world}", "unlearning").build(**context, config=settings)


def variant_rows(
    config: AblationConfig, setup: Setup, world: str, name: str, variant: Variant
) -> list[Row]:
    """Runs one variant; returns a row for every task, with curves on its test examples."""
    search = variant_search(config, world, variant)
    tasks = [variant.task(task, seed) for task, seed in zip(setup.tasks, setup.seeds, strict=True)]
    found = edit_many(search, tasks, jax.random.split(jax.random.key(config.seed), len(tasks)))
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
