"""What the transfer experiment leaves behind: summary, metrics, figures, report."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines, speed_lines
from experiments.transfer.config import Config
from experiments.transfer.figures import adaptation_figure, sequence_figure, zero_shot_figure
from modeledit_jax.evaluation.statistics import tost
from modeledit_jax.evaluation.targets import TARGET
from modeledit_jax.report.markdown import Column, markdown_table, table_lines
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, group_by, select
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json

COLUMNS = (Column("forget_accuracy_test", "highest"), Column("retain_drop_test", "highest"))
SEQUENCE = (Column("worst_forgotten_test", "highest"), Column("rest_drop_test", "highest"))
STRATA = ("held_out",)
"""The class that a policy was not trained for makes another task, not another method."""

LEVELS = {"median": 0.5, "90th percentile": 0.9}
"""Quantiles of evaluations."""

MARGIN = 0.005
"""Half a point of accuracy: edits that differ by less are taken as equally good."""


def write_report(config: Config, rows: Sequence[Row]) -> None:
    """Writes everything into the run folder."""
    folder = run_folder(config)
    write_figures(config, rows, folder / "figures")
    atomic_write_text(folder / "report.md", report_text(config, rows))
    write_metrics_csv(folder, rows)
    write_summary(folder, "transfer", as_json(config), rows, STRATA)
    if zero_shot := select(rows, part="zero-shot"):
        print(markdown_table(zero_shot, COLUMNS, strata=STRATA))


def write_figures(config: Config, rows: Sequence[Row], folder: Path) -> None:
    """Figures of all parts there are."""
    if zero_shot := select(rows, part="zero-shot"):
        zero_shot_figure(zero_shot, config, folder / "zero_shot.png")
    adaptation = group_by(select(rows, part="adaptation"), "method")
    for world in config.worlds if adaptation else ():
        methods = (f"{kind}-{world}" for kind in ("policy", "ppo", "openes", "snes"))
        runs = [row for method in methods for row in adaptation.get(method, ())]
        adaptation_figure(runs, config, world, folder / f"adaptation_{world}.png")
    if sequence := select(rows, part="sequence"):
        for metric in ("worst_forgotten_test", "rest_drop_test"):
            name = metric.removesuffix("_test")
            sequence_figure(sequence, metric, folder / f"sequence_{name}.png")


def report_text(config: Config, rows: Sequence[Row]) -> str:
    """The report in Markdown."""
    lines = [
        f"# Learning to edit ({config.dataset})",
        "",
        f"Policies trained on {config.training_networks} networks of each shape "
        f"({', '.join(config.networks)}) on each data set "
        f"({', '.join((config.dataset, *config.training_data))}); edited: `fc2/kernel` of "
        f"{config.seeds} new networks of each shape. Every number is on test examples that neither "
        "a network's training nor any reward has seen.",
        "",
    ]
    if zero_shot := select(rows, part="zero-shot"):
        lines += ["## Without any reward evaluation", "", *_zero_shot_lines(zero_shot)]
    if adaptation := select(rows, part="adaptation"):
        lines += ["## With reward evaluations", "", *_adaptation_lines(config, adaptation)]
        lines += speed_lines(f"to {TARGET}", adaptation, solved="solved", levels=LEVELS)
    if sequence := select(rows, part="sequence"):
        lines += ["## One request after another", "", *_sequence_lines(sequence)]
    if cost := select(rows, part="cost"):
        lines += ["## Cost", "", *_cost_lines(cost)]
    return "\n".join([*lines, *figure_lines(run_folder(config))]) + "\n"


def _zero_shot_lines(rows: Sequence[Row]) -> list[str]:
    return [
        markdown_table(rows, COLUMNS, strata=STRATA),
        "",
        "Seen class `no`: forgotten by the one policy that was never asked for that class; `yes`: "
        "by all others. `ridge` and `projection` edit the same layer in closed form.",
        "",
    ]


def _adaptation_lines(config: Config, rows: Sequence[Row]) -> list[str]:
    lines = [markdown_table(rows, COLUMNS), ""]
    for world in config.worlds if config.seeds > 1 else ():
        ppo = select(rows, method=f"ppo-{world}", start="scratch")
        for budget in config.budgets:
            policy = select(rows, method=f"policy-{world}", budget=budget)
            p_values = {
                metric: tost(_per_network(policy, metric) - _per_network(ppo, metric), MARGIN)
                for metric in ("forget_accuracy_test", "retain_drop_test")
            }
            text = ", ".join(
                f"{name.replace('_', ' ')} p = {p:.2g}" for name, p in p_values.items()
            )
            lines.append(
                f"- `policy-{world}` with {budget:,} evaluations against `ppo-{world}` with "
                f"{config.search_budget:,}, equivalence within ±{100 * MARGIN:.1f} points (two "
                f"one-sided t-tests over networks): {text}."
            )
    return [*lines, ""]


def _per_network(rows: Sequence[Row], metric: str) -> np.ndarray:
    """Means over the tasks of each network, by seed."""
    networks = group_by(sorted(rows, key=lambda row: row.seed), "seed")
    return np.array([np.mean([row.metrics[metric] for row in each]) for each in networks.values()])


def _sequence_lines(rows: Sequence[Row]) -> list[str]:
    return [
        markdown_table(rows, SEQUENCE),
        "",
        "`worst forgotten` is the highest accuracy on any class asked for so far, `rest drop` "
        "what all other classes have lost. In turn `yes`: trained further on such episodes.",
        "",
    ]


def _cost_lines(rows: Sequence[Row]) -> list[str]:
    cells = [
        [
            row.method,
            f"{1000 * row.metrics['seconds_per_edit']:,.1f}",
            f"{row.cost.reward_evaluations:,}",
        ]
        for row in select(rows, phase="edit")
    ]
    lines = [*table_lines(["method", "milliseconds per edit", "reward evaluations"], cells), ""]
    for row in select(rows, phase="training"):
        lines.append(
            f"- training of `{row.method}`: {row.cost.seconds:,.0f} s, "
            f"{row.cost.reward_evaluations:,} reward evaluations; cheaper in time than "
            f"searching from scratch from {row.metrics['break_even_edits']:,.0f} edits on."
        )
    return [*lines, ""]
