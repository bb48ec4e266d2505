"""What the reports of the experiments share: what is kept of the searches, parts of the text."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.common.methods import Result
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.evaluation.targets import quantiles_of_needed
from modeledit_jax.report.markdown import table_lines
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.checkpoint import save_tree
from modeledit_jax.tasks.task import Task


def save_weights(
    run_dir: Path, tasks: Sequence[Task], seeds: Sequence[int], searches: Sequence[Result]
) -> None:
    """Saves the networks PPO edited, whole, each in a folder of its own."""
    for result in searches:
        if not result.learned or result.leaves is None:
            continue
        for task, seed, leaves in zip(tasks, seeds, result.leaves, strict=True):
            folder = run_dir / "weights" / result.method / f"{task.name}-seed-{seed}"
            save_tree(folder, set_leaves(task.subject.params, leaves))


def speed_lines(
    target: str, rows: Sequence[Row], *, solved: str, levels: Mapping[str, float]
) -> list[str]:
    """How many reward evaluations each search needed, ``evaluations_to_target`` of the rows.

    Args:
      target: in words, for the heading.
      rows: of all editors; searches are those with the metric.
      solved: header of the column that counts who met the target.
      levels: quantiles to show, by their headers.
    """
    lines = []
    for name, own in group_by(rows, "method").items():
        if "evaluations_to_target" not in own[0].metrics:
            continue
        needed = np.array([row.metrics["evaluations_to_target"] for row in own])
        cells = [
            f"{value:,.0f}" if np.isfinite(value) else "not reached"
            for value in quantiles_of_needed(needed, levels.values())
        ]
        lines.append((name, f"{np.isfinite(needed).sum()}/{len(needed)}", *cells))
    if not lines:
        return []
    heading = f"## Reward evaluations {target}"
    return [heading, "", *table_lines(("search", solved, *levels), lines), ""]


def figure_lines(run_dir: Path) -> list[str]:
    """All figures of a run."""
    paths = sorted((run_dir / "figures").glob("*.png"))
    shown = [f"![{path.stem}](figures/{path.name})" for path in paths]
    return ["## Figures", "", *shown, ""]
