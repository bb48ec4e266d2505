"""What the reports of the experiments share: what is kept of the searches, parts of the text."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.methods import Result
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.report.markdown import table_lines
from modeledit_jax.report.summary import Row, group_by_editor
from modeledit_jax.run.checkpoint import save_tree
from modeledit_jax.tasks.task import Task


def long_format(
    tasks: Sequence[Task],
    seeds: Sequence[int],
    searches: Sequence[Result],
    curves: Mapping[str, Sequence[np.ndarray]],
) -> dict[str, list[Any]]:
    """The course of every search, one line per task and update: the columns of ``metrics.csv``.

    Args:
      tasks: ``B`` of them.
      seeds: of each task.
      searches: whose course is kept.
      curves: ``{column: [B, K] of every search}``.
    """
    names = ("editor", "task", "seed", "reward_evaluations", "score", *curves)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, result in enumerate(searches):
        assert result.evaluations is not None and result.score is not None
        for index, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
            constants = (result.method, task.name, seed)
            values = (
                *([constant] * len(result.evaluations) for constant in constants),
                result.evaluations,
                result.score[index],
                *(own[number][index] for own in curves.values()),
            )
            for name, own in zip(names, values, strict=True):
                columns[name].extend(np.asarray(own).tolist())
    return columns


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


def first_met(met: np.ndarray, evaluations: np.ndarray) -> np.ndarray:
    """Reward evaluations ``[B]`` until a target is first met ``[B, K]``; NaN if never."""
    first = evaluations[met.argmax(axis=1)].astype(np.float64)
    return np.where(met.any(axis=1), first, np.nan)


def quantiles_of_needed(needed: np.ndarray, levels: Iterable[float]) -> list[float]:
    """Quantiles of what `first_met` found, infinite where too few tasks met their target."""
    known = np.where(np.isfinite(needed), needed, np.inf)
    return [float(np.quantile(known, level, method="higher")) for level in levels]


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
    for name, own in group_by_editor(rows).items():
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
