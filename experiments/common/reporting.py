"""What the reports of the experiments share: what is kept of the searches, parts of the text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common.methods import Method, Result
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.evaluation.statistics import (
    Interval,
    holm,
    paired_difference,
    probability_of_improvement,
)
from modeledit_jax.evaluation.targets import quantiles_of_needed
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.aggregates import paired, score_matrix
from modeledit_jax.report.markdown import (
    factor_cell,
    interval_cell,
    table_lines,
    varying_factors,
)
from modeledit_jax.report.table import Row, by_variant, group_by
from modeledit_jax.run.checkpoint import save_tree
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Leaves


def save_weights(
    run_dir: Path, tasks: Sequence[Task], seeds: Sequence[int], searches: Sequence[Result]
) -> None:
    """Saves the networks that searches edited, whole, each in a folder of its own."""
    for result in searches:
        if result.evaluations is None or result.leaves is None:
            continue
        for task, seed, leaves in zip(tasks, seeds, result.leaves, strict=True):
            folder = run_dir / "weights" / result.method / f"{task.name}-seed-{seed}"
            save_tree(folder, set_leaves(task.subject.params, leaves))


def site_notes(tasks: Sequence[Task], results: Sequence[Result]) -> list[str]:
    """How many of the final edits changed which leaf of the site, a line for every search."""
    notes = []
    for result in results:
        if result.evaluations is None or result.leaves is None:
            continue
        pairs = list(zip(tasks, result.leaves, strict=True))
        counts = (
            f"`{path}` in {sum(_changed(task, leaves, path) for task, leaves in pairs)}"
            for path in tasks[0].site
        )
        notes.append(f"{result.method} changed, of {len(pairs)} final edits, {', '.join(counts)}")
    return notes


def _changed(task: Task, edited: Leaves, path: str) -> bool:
    return not np.array_equal(task.leaves[path], edited[path])


def speed_lines(
    target: str, rows: Sequence[Row], *, solved: str, levels: Mapping[str, float]
) -> list[str]:
    """How many reward evaluations each method needed, ``evaluations_to_target`` of the rows.

    Args:
      target: in words, for the heading.
      rows: those without the metric are left out; factors that vary are shown as columns.
      solved: header of the column that counts who met the target.
      levels: quantiles to show, by their headers.
    """
    rows = [row for row in rows if "evaluations_to_target" in row.metrics]
    if not rows:
        return []
    factors = varying_factors(rows)
    lines = []
    for runs in by_variant(rows):
        needed = np.array([row.metrics["evaluations_to_target"] for row in runs])
        lines.append(
            [
                runs[0].method,
                *(factor_cell(runs[0].factors.get(name)) for name in factors),
                f"{np.isfinite(needed).sum()}/{len(needed)}",
                *(
                    f"{value:,.0f}" if np.isfinite(value) else "not reached"
                    for value in quantiles_of_needed(needed, levels.values())
                ),
            ]
        )
    names = [name.replace("_", " ") for name in factors]
    table = table_lines(("method", *names, solved, *levels), lines, texts=1 + len(names))
    return [f"## Reward evaluations {target}", "", *table, ""]


def comparison_lines(
    rows: Sequence[Row], learned: Sequence[str], others: Sequence[str], metric: str, title: str
) -> list[str]:
    """Learned methods against all others, paired by network and task.

    Args:
      rows: of all methods; pairs of which a value is not finite are left out.
      learned: names of methods.
      others: names of methods that each of these is compared with; itself is left out.
      metric: to compare, of which more is better.
      title: what the metric is called.
    """
    present = group_by(rows, "method")
    pairs = [(one, other) for one in learned for other in others if one != other]
    found = []
    for one, other in pairs:
        if other not in present:  # it did not fit the tasks
            continue
        first, second = present[one], present[other]
        if not np.isfinite(paired(first, second, metric)).all():
            continue
        scores = score_matrix(first, metric), score_matrix(second, metric)
        found.append((one, other, paired_difference(*scores), probability_of_improvement(*scores)))
    if not found:
        return []
    adjusted = holm([difference.p_value for _, _, difference, _ in found])
    lines = [
        (
            one,
            other,
            interval_cell(Interval(*difference[:3]), 4, signed=True),
            f"{p:.3f}",
            interval_cell(improvement, 2),
        )
        for (one, other, difference, improvement), p in zip(found, adjusted, strict=True)
    ]
    header = ("method", "against", f"{title}: difference [95 %]", "p", "better with probability")
    note = (
        "Pairs of the same network and task; networks, then their tasks are drawn anew for the "
        "intervals. p: Wilcoxon signed-rank test over all pairs as if they were independent, "
        "corrected by Holm for all lines. Last, the probability that a run of the first is better "
        "than one of the second on a task (ties count half)."
    )
    return ["## Comparisons", "", *table_lines(header, lines, texts=2), "", note, ""]


def styles_of(methods: Sequence[Method]) -> dict[str, Style]:
    """Styles of methods, as their presets have them."""
    return {method.name: method.style for method in methods if method.style is not None}


def figure_lines(run_dir: Path) -> list[str]:
    """All figures of a run."""
    paths = sorted((run_dir / "figures").glob("*.png"))
    shown = [f"![{path.stem}](figures/{path.name})" for path in paths]
    return ["## Figures", "", *shown, ""]
