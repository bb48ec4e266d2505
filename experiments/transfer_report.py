"""What the transfer experiment leaves behind: summary, tables, figures, report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from experiments.options import run_folder
from experiments.reporting import figure_lines, quantiles_of_needed
from experiments.transfer import Config
from experiments.transfer_adaptation import Course
from modeledit_jax.evaluation.statistics import tost
from modeledit_jax.run.config import as_json
from modeledit_jax.run.figures import learning_curves
from modeledit_jax.run.markdown import table_lines
from modeledit_jax.run.results import (
    Column,
    Row,
    aggregate,
    atomic_write_text,
    group_by_editor,
    markdown_table,
    write_summary,
)

COLUMNS = (Column("forget_accuracy_test", "highest"), Column("retain_drop_test", "highest"))
SEQUENCE = (Column("worst_forgotten_test", "highest"), Column("rest_drop_test", "highest"))
COST = (Column("seconds_per_edit", "highest", percent=False, digits=3),)
MARGIN = 0.005
"""Half a point of accuracy: edits that differ by less are taken as equally good."""


@dataclass
class Findings:
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


def write_report(findings: Findings) -> None:
    """Writes everything into the run folder."""
    config = findings.config
    folder = run_folder(config)
    write_figures(findings, folder / "figures")
    atomic_write_text(folder / "report.md", report_text(findings))
    rows = [
        *(_marked("zero-shot", row) for row in findings.zero_shot),
        *(_marked("adaptation", row) for row in findings.adaptation),
        *(_marked("sequence", row) for row in findings.sequence),
        *(_marked("cost", row) for row in findings.cost),
    ]
    write_summary(folder, "transfer", as_json(config), rows, aggregate(rows))
    if findings.zero_shot:
        print(markdown_table(findings.zero_shot, COLUMNS))


def _marked(part: str, row: Row) -> Row:
    """A row under the name of its part, in which editors' names are unique."""
    return Row(f"{part}-{row.editor}", row.task, row.seed, row.metrics, row.cost)


def write_figures(findings: Findings, folder: Path) -> None:
    """Curves of the adaptation, and of requests one after another."""
    shorter = [f"-plus-{budget}" for budget in sorted(findings.config.budgets)[:-1]]
    for world, every in findings.courses.items():
        # The policy with its largest budget alone: the shorter courses would lie on the same line.
        courses = {name: own for name, own in every.items() if not name.endswith(tuple(shorter))}
        learning_curves(
            {name: _score(course, findings.instant[world]) for name, course in courses.items()},
            {name: course.evaluations for name, course in courses.items()},
            "(1 − forget accuracy) · (1 − drop of the rest)",
            folder / f"adaptation_{world}.png",
            title=f"Edits of new networks for new classes ({world})",
            percent=False,
        )
    for metric, ylabel in (
        ("worst_forgotten_test", "highest accuracy on a class asked for"),
        ("rest_drop_test", "accuracy the others have lost"),
    ):
        if curves := _sequence_curves(findings.sequence, metric):
            steps = {name: np.arange(1, runs.shape[1] + 1) for name, runs in curves.items()}
            learning_curves(
                curves,
                steps,
                ylabel,
                folder / f"sequence_{metric.removesuffix('_test')}.png",
                title="One request after another",
                log_x=False,
                xlabel="requests",
            )


def _score(course: Course, instant: Sequence[Row]) -> np.ndarray:
    """Share of the request fulfilled times share of the rest kept, ``[B, K]``."""
    base = np.array(
        [r.metrics["retain_accuracy_test"] + r.metrics["retain_drop_test"] for r in instant]
    )
    drop = np.clip(base[:, None] - course.curves["retain"], 0.0, 1.0)
    return (1.0 - course.curves["forget"]) * (1.0 - drop)


def _sequence_curves(rows: Sequence[Row], metric: str) -> dict[str, np.ndarray]:
    """``{editor: [runs, requests]}``."""
    curves: dict[str, list[np.ndarray]] = {}
    for editor, own in group_by_editor(rows).items():
        name, _, _ = editor.rpartition("-after-")
        curves.setdefault(name, []).append(np.array([row.metrics[metric] for row in own]))
    return {name: np.stack(steps, axis=1) for name, steps in curves.items()}


def report_text(findings: Findings) -> str:
    """The report in Markdown."""
    config = findings.config
    lines = [
        f"# Learning to edit ({config.dataset})",
        "",
        f"Policies trained on {config.training_networks} networks of each shape "
        f"({', '.join(config.networks)}); edited: `fc2/kernel` of {config.seeds} new networks of "
        "each shape. Every number is on test examples that neither a network's training nor any "
        "reward has seen.",
        "",
    ]
    if findings.zero_shot:
        lines += ["## Without any reward evaluation", "", *_zero_shot_lines(findings)]
    if findings.courses:
        lines += ["## With reward evaluations", "", *_adaptation_lines(findings)]
    if findings.sequence:
        lines += [
            "## One request after another",
            "",
            markdown_table(findings.sequence, SEQUENCE),
            "",
            "`worst forgotten` is the highest accuracy on any class asked for so far, `rest drop` "
            "what all other classes have lost. `-in-turn` was trained further on such episodes.",
            "",
        ]
    if findings.cost:
        lines += ["## Cost", "", *_cost_lines(findings.cost)]
    return "\n".join([*lines, *figure_lines(run_folder(config))]) + "\n"


def _zero_shot_lines(findings: Findings) -> list[str]:
    return [
        markdown_table(findings.zero_shot, COLUMNS),
        "",
        "`new-class`: forgotten by the one policy that was never asked for that class; "
        "`seen-class`: by all others. `ridge` and `projection` edit the same layer in closed form.",
        "",
    ]


def _adaptation_lines(findings: Findings) -> list[str]:
    rows = findings.adaptation
    lines = [markdown_table(rows, COLUMNS), "", *_target_lines(rows)]
    budget = findings.config.search_budget
    for world in findings.courses:
        for spent in findings.config.budgets:
            one, other = f"policy-{world}-plus-{spent}", f"ppo-{world}"
            p_values = {
                metric: tost(
                    _per_network(rows, one, metric) - _per_network(rows, other, metric), MARGIN
                )
                for metric in ("forget_accuracy_test", "retain_drop_test")
                if findings.config.seeds > 1
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
    for editor, own in group_by_editor(rows).items():
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
    own = [row for row in rows if row.editor == editor]
    seeds = sorted({row.seed for row in own})
    return np.array([np.mean([r.metrics[metric] for r in own if r.seed == s]) for s in seeds])


def _cost_lines(rows: Sequence[Row]) -> list[str]:
    edits = [row for row in rows if "seconds_per_edit" in row.metrics]
    cells = [
        [
            row.editor,
            f"{1000 * row.metrics['seconds_per_edit']:,.1f}",
            f"{row.cost.reward_evaluations:,}",
        ]
        for row in edits
    ]
    lines = [*table_lines(["editor", "milliseconds per edit", "reward evaluations"], cells), ""]
    for row in rows:
        if "break_even_edits" in row.metrics:
            lines.append(
                f"- `{row.editor}`: {row.cost.seconds:,.0f} s, "
                f"{row.cost.reward_evaluations:,} reward evaluations; cheaper in time than "
                f"searching from scratch from {row.metrics['break_even_edits']:,.0f} edits on."
            )
    return [*lines, ""]
