"""What the benchmark leaves behind: tables in Markdown, CSV and LaTeX, a figure, the summary."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.common.methods import Method
from experiments.common.options import run_folder
from experiments.common.reporting import comparison_lines, figure_lines, styles_of
from experiments.unlearning.scenarios import FORGET_SETS
from experiments.unlearning_benchmark.config import BenchmarkConfig
from experiments.unlearning_benchmark.figures import draw_distances
from experiments.unlearning_benchmark.provenance import provenance_lines
from experiments.unlearning_benchmark.statistics import Statistics, all_statistics
from experiments.unlearning_benchmark.tables import (
    benchmark_table,
    detail_table,
    floor_table,
    second_retrain_table,
)
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.report.latex import latex_table
from modeledit_jax.report.markdown import table_lines
from modeledit_jax.report.serialization import as_plain
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json

OUTPUTS = (
    "forget_accuracy_train",
    "forget_accuracy_test",
    "retain_accuracy_train",
    "retain_accuracy_test",
    "tow",
    "total_variation_forget_test",
    "total_variation_retain_test",
)
"""Metrics of outputs that are compared with Retrain; those of `inner_metrics` follow."""
INSIDE = ("prototype_gap_", "relearn_index", "membership_gap")
"""How the names of `inner_metrics` begin."""


def write_report(
    config: BenchmarkConfig,
    rows: Sequence[Row],
    methods: Sequence[Method],
    replicates: Sequence[str],
    notes: Sequence[str],
) -> None:
    """Writes everything into ``config.run_dir``.

    Args:
      config: of the run.
      rows: of all methods, references first.
      methods: those that were named.
      replicates: names of the further retrained networks.
      notes: what the reader has to know of the run.
    """
    folder = run_folder(config)
    inside = [name for name in rows[0].metrics if name.startswith(INSIDE)]
    found = all_statistics(rows, (*OUTPUTS, *inside), replicates)
    header, lines = benchmark_table(rows, found)
    atomic_write_text(folder / "table.tex", latex_table(header, lines))
    atomic_write_text(folder / "statistics.csv", statistics_csv(found))
    draw_distances(folder / "figures", rows, found, styles_of(methods))
    text = report_text(config, rows, found, methods, notes)
    atomic_write_text(folder / "report.md", text)
    write_metrics_csv(folder, rows)
    write_summary(folder, "unlearning-benchmark", as_json(config), rows)
    print("\n".join(table_lines(header, lines)))


def report_text(
    config: BenchmarkConfig,
    rows: Sequence[Row],
    found: Sequence[Statistics],
    methods: Sequence[Method],
    notes: Sequence[str],
) -> str:
    """The report in Markdown; arguments as of `write_report`, and its statistics."""
    seeds, tasks = len({row.seed for row in rows}), len({row.task for row in rows})
    learned = [method.name for method in methods if isinstance(method.editor, PPO)]
    edits = [method.name for method in methods if method.role != "reference"]
    lines = [
        f"# Unlearning benchmark on {config.dataset} ({config.subject})",
        "",
        f"{tasks} request(s) on {seeds} network(s); {config.budget:,} evaluations of a search "
        f"for each; {config.retrains} networks retrained for each. Edited: "
        f"`{', '.join(config.site)}`, by methods that train: the {config.scope}. Test examples, "
        "unless a name says otherwise.",
        "",
        *([FORGET_SETS[config.scenario], ""] if FORGET_SETS[config.scenario] else []),
        "## Methods",
        "",
        *table_lines(*benchmark_table(rows, found)),
        "",
        *_TABLE_NOTES,
        "",
        "## Details and costs",
        "",
        *table_lines(*detail_table(rows, found)),
        "",
        *_DETAIL_NOTES,
        "",
        "## Within the floor of chance",
        "",
        *table_lines(*floor_table(found)),
        "",
        *_FLOOR_NOTES,
        "",
        "## Against a second Retrain",
        "",
        *table_lines(*second_retrain_table(found, "tow")),
        "",
        *_SECOND_NOTES,
        "",
        *comparison_lines(rows, learned, edits, "tow", "Tug-of-War"),
        *provenance_lines(config, methods),
        *figure_lines(run_folder(config)),
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


_TABLE_NOTES = (
    "Means over classes and networks; with [95 %], interquartile means and their hierarchical "
    "intervals (networks, then their classes are drawn anew). Worst class: the one farthest from "
    "Retrain, mean over networks. Prototype gap: 1 shot, what the last layer reads. KLOM compares "
    "the margins of all networks of a class with those of further retrained ones: `retrain` is its "
    "floor. Optimism: retain accuracy that an edit gains on the examples of the reward and not on "
    "test. As retrained: metrics in which it is within the floor of chance (see below).",
)
_DETAIL_NOTES = (
    "Intervals as above. U-LiRA: 0.5 where networks cannot be told from retrained ones, which "
    "`retrain` shows. Seconds are those of one edit; searches run side by side.",
)
_FLOOR_NOTES = (
    "Mean deviation from the retrained network of the same class and seed, of relearn indices in "
    "doublings (−1: relearned in half the steps); the margin is what 95 % "
    "of the further retrained ones keep (at least 0.001). ✓: two one-sided t-tests put the mean "
    "within the margin (p ≤ 0.05, Holm over methods; cells count as independent).",
)
_SECOND_NOTES = (
    "Interquartile means of Tug-of-War with both intervals: networks drawn anew within each class "
    "(stratified), and networks, then classes (hierarchical). Farther: mean of |deviation from "
    "Retrain| minus that of the second retrained network, with the hierarchical interval and the p "
    "of Wilcoxon's signed-rank test (Holm over methods). As close with probability: that a cell "
    "comes closer to Retrain than the second one does; one half is the goal.",
)


def statistics_csv(found: Sequence[Statistics]) -> str:
    """A line for every method and metric; intervals are columns of their own."""
    return pd.json_normalize([_flat(one) for one in found]).to_csv(index=False, lineterminator="\n")


def _flat(one: Statistics) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(one):
        value = getattr(one, field.name)
        if isinstance(value, tuple):
            bounds = zip(("", "_low", "_high"), value, strict=True)
            flat |= {f"{field.name}{suffix}": as_plain(part) for suffix, part in bounds}
        else:
            flat[field.name] = as_plain(value)
    return flat
