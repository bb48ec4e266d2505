"""What the transfer experiment leaves behind: summary, tables, figures, report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines
from experiments.transfer.adaptation import Course
from experiments.transfer.config import Config
from experiments.transfer.figures import adaptation_figure, sequence_figure, zero_shot_figure
from modeledit_jax.evaluation.statistics import tost
from modeledit_jax.evaluation.targets import quantiles_of_needed
from modeledit_jax.report.markdown import Column, markdown_table, table_lines
from modeledit_jax.report.summary import write_summary
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json

COLUMNS = (Column("forget_accuracy_test", "highest"), Column("retain_drop_test", "highest"))
SEQUENCE = (Column("worst_forgotten_test", "highest"), Column("rest_drop_test", "highest"))
COST = (Column("seconds_per_edit", "highest", percent=False, digits=3),)
MARGIN = 0.005
"""Half a point of accuracy: edits that differ by less are taken as equally good."""


@dataclass
class Results:
    """All rows of the experiment."""

    config: Config
    zero_shot: list[Row] = field(default_factory=list)
    instant: dict[str, list[Row]] = field(default_factory=dict)  # of the adapted tasks, by world
    courses: dict[str, dict[str, Course]] = field(default_factory=dict)
    sequence: list[Row] = field(default_factory=list)
    cost: list[Row] = field(default_factory=list)

    @property
    def adaptation(self) -> list[Row]:
        """Policies' edits as they are, and the searches'."""
        rows = list(chain.from_iterable(self.instant.values()))
        for courses in self.courses.values():
            rows += chain.from_iterable(course.rows for course in courses.values())
        return rows


def write_report(results: Results) -> None:
    """Writes everything into the run folder."""
    config = results.config
    folder = run_folder(config)
    _write_figures(results, folder / "figures")
    atomic_write_text(folder / "report.md", report_text(results))
    rows = [
        *(_marked("zero-shot", row) for row in results.zero_shot),
        *(_marked("adaptation", row) for row in results.adaptation),
        *(_marked("sequence", row) for row in results.sequence),
        *(_marked("cost", row) for row in results.cost),
    ]
    write_summary(folder, "transfer", as_json(config), rows)
    if results.zero_shot:
        print(markdown_table(results.zero_shot, COLUMNS))


def _marked(part: str, row: Row) -> Row:
    """A row under the name of its part, in which editors' names are unique."""
    return Row(f"{part}-{row.method}", row.task, row.seed, row.metrics, row.cost)


def _write_figures(results: Results, folder: Path) -> None:
    if results.zero_shot:
        zero_shot_figure(results.zero_shot, folder / "zero_shot.png")
    shorter = tuple(f"-plus-{budget}" for budget in sorted(results.config.budgets)[:-1])
    for world, every in results.courses.items():
        # The policy with its largest budget alone: the shorter courses would lie on the same line.
        courses = {name: own for name, own in every.items() if not name.endswith(shorter)}
        adaptation_figure(
            courses, results.instant[world], world, folder / f"adaptation_{world}.png"
        )
    if results.sequence:
        for metric in ("worst_forgotten_test", "rest_drop_test"):
            name = metric.removesuffix("_test")
            sequence_figure(results.sequence, metric, folder / f"sequence_{name}.png")


def report_text(results: Results) -> str:
    """The report in Markdown."""
    config = results.config
    lines = [
        f"# Learning to edit ({config.dataset})",
        "",
        f"Policies trained on {config.training_networks} networks of each shape "
        f"({', '.join(config.networks)}); edited: `fc2/kernel` of {config.seeds} new networks of "
        "each shape. Every number is on test examples that neither a network's training nor any "
        "reward has seen.",
        "",
    ]
    if results.zero_shot:
        lines += ["## Without any reward evaluation", "", *_zero_shot_lines(results)]
    if results.courses:
        lines += ["## With reward evaluations", "", *_adaptation_lines(results)]
    if results.sequence:
        lines += [
            "## One request after another",
            "",
            markdown_table(results.sequence, SEQUENCE),
            "",
            "`worst forgotten` is the highest accuracy on any class asked for so far, `rest drop` "
            "what all other classes have lost. `-in-turn` was trained further on such episodes.",
            "",
        ]
    if results.cost:
        lines += ["## Cost", "", *_cost_lines(results.cost)]
    return "\n".join([*lines, *figure_lines(run_folder(config))]) + "\n"


def _zero_shot_lines(results: Results) -> list[str]:
    return [
        markdown_table(results.zero_shot, COLUMNS),
        "",
        "`new-class`: forgotten by the one policy that was never asked for that class; "
        "`seen-class`: by all others. `ridge` and `projection` edit the same layer in closed form.",
        "",
    ]


def _adaptation_lines(results: Results) -> list[str]:
    rows = results.adaptation
    lines = [markdown_table(rows, COLUMNS), "", *_target_lines(rows)]
    budget = results.config.search_budget
    for world in results.courses:
        for spent in results.config.budgets:
            one, other = f"policy-{world}-plus-{spent}", f"ppo-{world}"
            p_values = {
                metric: tost(
                    _per_network(rows, one, metric) - _per_network(rows, other, metric), MARGIN
                )
                for metric in ("forget_accuracy_test", "retain_drop_test")
                if results.config.seeds > 1
            }
            if p_values:
                text = ", ".join(
                    f"{name.replace('_', ' ')} p = {p:.2g}" for name, p in p_values.items()
                )
                lines.append(
                    f"- `{one}` against `{other}` with {budget:,} evaluations, equivalence within "
                    f"±{100 * MARGIN:.1f} points (two one-sided t-tests over networks): {text}."
                )
    return [*lines, ""]


def _target_lines(rows: Sequence[Row]) -> list[str]:
    """How many evaluations each needed; a policy whose edit is good at once needed none."""
    cells = []
    for editor, own in group_by(rows, "method").items():
        needed = np.array([_needed(row) for row in own])
        middle, most = quantiles_of_needed(needed, (0.5, 0.9))
        shown = ("never" if np.isinf(value) else f"{value:,.0f}" for value in (middle, most))
        cells.append([editor, f"{np.isfinite(needed).sum()} of {len(needed)}", *shown])
    header = ["editor", "solved", "evaluations: median", "90th percentile"]
    return [
        "Evaluations to forget ≤ 1 % and the rest ≥ original − 1 point:",
        "",
        *table_lines(header, cells),
        "",
    ]


def _needed(row: Row) -> float:
    if "evaluations_to_target" in row.metrics:
        return row.metrics["evaluations_to_target"]
    good = row.metrics["forget_accuracy_test"] <= 0.01 and row.metrics["retain_drop_test"] <= 0.01
    return 0.0 if good else np.nan


def _per_network(rows: Sequence[Row], editor: str, metric: str) -> np.ndarray:
    own = [row for row in rows if row.method == editor]
    seeds = sorted({row.seed for row in own})
    return np.array([np.mean([r.metrics[metric] for r in own if r.seed == s]) for s in seeds])


def _cost_lines(rows: Sequence[Row]) -> list[str]:
    edits = [row for row in rows if "seconds_per_edit" in row.metrics]
    cells = [
        [
            row.method,
            f"{1000 * row.metrics['seconds_per_edit']:,.1f}",
            f"{row.cost.reward_evaluations:,}",
        ]
        for row in edits
    ]
    lines = [*table_lines(["editor", "milliseconds per edit", "reward evaluations"], cells), ""]
    for row in rows:
        if "break_even_edits" in row.metrics:
            lines.append(
                f"- `{row.method}`: {row.cost.seconds:,.0f} s, "
                f"{row.cost.reward_evaluations:,} reward evaluations; cheaper in time than "
                f"searching from scratch from {row.metrics['break_even_edits']:,.0f} edits on."
            )
    return [*lines, ""]
