"""Runs all variants of RLEdit on all seeds and writes what came out."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.common.memory import announcer
from experiments.common.options import run_folder
from experiments.lifelong_editing.setup import Setup, check_modules, prepare
from experiments.rledit_ablation.config import AblationConfig
from experiments.rledit_ablation.variants import RLEDIT, Variant, make_variants
from modeledit_jax.lifelong.scoring import HEADLINE
from modeledit_jax.report.interval_plot import interval_plot
from modeledit_jax.report.markdown import mean_cell, table_lines
from modeledit_jax.report.summary import write_summary
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.fact_run import SHOWN, run_fact_task
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.progress import Progress

METRICS = ("overall", *HEADLINE)
TITLES = {
    "updates": "Is training longer than the released single step worth it?",
    "size": "The L2 term, with a gradient and without (released)",
    "memory": "Batches that a change is judged by",
    "past": "Weight of past batches in the objective",
    "accumulator": "Edited weights kept in float32 or bfloat16",
}


def run(config: AblationConfig) -> Path:
    """Runs the ablation and writes its folder."""
    check_modules(config)
    variants = {
        (question, name): variant
        for question, group in make_variants(config).items()
        if question in config.questions
        for name, variant in group.items()
    }
    rows = []
    with Progress("RLEdit ablation", config.seeds * (1 + len(variants)), SHOWN) as bars:
        for seed in range(config.seed, config.seed + config.seeds):
            setup = prepare(config, seed, bars.reporter)
            bars.one_done()
            for (question, name), variant in variants.items():
                rows.append(run_variant(config, setup, question, name, variant, bars))
                bars.one_done()
    return write_report(config, rows)


def run_variant(
    config: AblationConfig,
    setup: Setup,
    question: str,
    name: str,
    variant: Variant,
    bars: Progress,
) -> Row:
    """One variant on one seed; RLEdit is trained and edited once for all questions."""

    def folder(name: str) -> Path:
        return run_folder(config) / "checkpoints" / f"{name}-seed-{setup.seed}"

    label = "".join(c if c.isalnum() else "-" for c in f"{question} {name}")
    found = run_fact_task(
        variant.method,
        setup.task,
        jax.random.key(setup.seed),
        folder=folder(RLEDIT if variant.is_rledit else label),
        training_folder=folder(RLEDIT if variant.shares_training else label) / "training",
        dtype=variant.dtype,
        reporter=bars.reporter,
        name=f"{question}, {name}",
        announce=announcer(f"{question}, {name}"),
    )  # fmt: skip
    factors = {"question": question, "variant": name}
    return Row(variant.preset, config.task, setup.seed, found.metrics, found.cost, factors)


def write_report(config: AblationConfig, rows: Sequence[Row]) -> Path:
    """The tables, the numbers, and a figure for every question."""
    folder = run_folder(config)
    lines = ["# What RLEdit's parts are worth", ""]
    for question, group in group_by(rows, "question").items():
        values = {
            metric: {
                name: np.array([100 * row.metrics[metric] for row in runs])
                for name, runs in group_by(group, "variant").items()
            }
            for metric in METRICS
        }
        figure = folder / "figures" / f"{question}.png"
        interval_plot(values, figure, title=TITLES[question])
        lines += [f"## {TITLES[question]}", "", *_table(group), "", f"![](figures/{figure.name})"]
        lines += [""]
    atomic_write_text(folder / "report.md", "\n".join(lines))
    write_summary(folder, "rledit-ablation", as_json(config), rows)
    print("\n".join(lines))
    return folder / "report.md"


def _table(rows: Sequence[Row]) -> list[str]:
    header = ["variant", *(f"{metric} %" for metric in METRICS)]
    lines = [
        [
            name,
            *(mean_cell([r.metrics[metric] for r in runs], 1, percent=True) for metric in METRICS),
        ]
        for name, runs in group_by(rows, "variant").items()
    ]
    return table_lines(header, lines)
