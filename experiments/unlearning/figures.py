"""Figures of the unlearning experiment."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.common.methods import Result
from modeledit_jax.evaluation.accuracy import confusion_matrix
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.matrices import confusion_before_after, edit_heatmap
from modeledit_jax.report.planes import forget_retain_plane
from modeledit_jax.report.table import Row, curve_matrix, group_by
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.tasks.unlearning_metrics import TEST_METRICS
from modeledit_jax.types import Leaves


def write_figures(
    folder: Path,
    tasks: Sequence[UnlearningTask],
    results: Mapping[str, Result],
    rows: Sequence[Row],
    styles: Mapping[str, Style],
) -> None:
    """Forget–retain plane, learning curves, heatmap of the edit, confusion matrices.

    Args:
      folder: to write them into.
      tasks: of the first, edits and confusions are shown.
      results: by method.
      rows: of all methods.
      styles: of methods of the user.
    """
    _draw_plane(folder, rows, styles)
    searches = [result for result in results.values() if result.evaluations is not None]
    if not searches:
        return
    by_method = group_by([row for row in rows if row.curves], "method")
    learning_curves(
        {name: curve_matrix(group, "tow_test") for name, group in by_method.items()},
        {name: curve_matrix(group, "reward_evaluations")[0] for name, group in by_method.items()},
        "Tug-of-War on test (1 = as retrained)",
        folder / "learning_curves.png",
        title="Present edit of each search",
        percent=False,
        styles=styles,
    )
    shown = [result for result in searches if result.learned] or searches
    changes = {
        result.method: _matrix_of_change(tasks[0].leaves, result.leaves[0])
        for result in shown
        if result.leaves is not None
    }
    edit_heatmap(changes, folder / "edit.png")
    for result in shown:
        _draw_confusion(folder, tasks[0], results["original"], result)


def _draw_plane(folder: Path, rows: Sequence[Row], styles: Mapping[str, Style]) -> None:
    forget, retain = TEST_METRICS
    points = {
        name: (
            np.array([row.metrics[forget] for row in group]),
            np.array([row.metrics[retain] for row in group]),
        )
        for name, group in group_by(rows, "method").items()
    }
    original, retrain = (
        (float(x.mean()), float(y.mean()))
        for x, y in (points.pop("original"), points.pop("retrain"))
    )
    path = folder / "forget_retain.png"
    forget_retain_plane(points, path, original=original, retrain=retrain, styles=styles)


def _draw_confusion(folder: Path, task: UnlearningTask, original: Result, edited: Result) -> None:
    """Confusion matrices of the first task before and after an edit."""
    before, after = (
        np.asarray(
            confusion_matrix(
                jnp.asarray(result.outputs[0]["test"]),
                jnp.asarray(task.roles["test"].targets),
                result.outputs[0]["test"].shape[-1],
            )
        )
        for result in (original, edited)
    )
    confusion_before_after(
        before,
        after,
        [str(index) for index in range(len(before))],
        folder / f"confusion_{edited.method.replace('-', '_')}.png",
        forgotten=task.forget_classes[0] if task.forget_classes else None,
    )


def _matrix_of_change(original: Leaves, edited: Leaves) -> np.ndarray:
    """Change of the first leaf that was changed as a matrix ``[D, H]``."""
    changed = (path for path, leaf in original.items() if not np.array_equal(leaf, edited[path]))
    path = next(changed, next(iter(original)))
    leaf = original[path]
    return np.asarray(edited[path] - leaf).reshape(-1, leaf.shape[-1])
