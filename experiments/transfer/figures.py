"""Figures of the transfer experiment: edits without evaluations, adaptation, requests in turn."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.transfer.adaptation import Course
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.style import dress, method_style, save
from modeledit_jax.report.table import Row, group_by

Runs = Float[np.ndarray, "runs k"]

WORLDS = ("shift", "mask")
SEQUENCE_LABELS = {
    "worst_forgotten_test": "highest accuracy on a class asked for",
    "rest_drop_test": "accuracy the others have lost",
}


def zero_shot_figure(rows: Sequence[Row], path: Path) -> Figure:
    """Every edit of every kind of network as a dot, and their means; a line for each kind."""
    groups = _settings(rows)
    lines = list(dict.fromkeys(setting for _, setting in groups))
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rng = np.random.default_rng(0)
    for (world, setting), own in groups.items():
        place = lines.index(setting) + (0.17 if world == "mask" else -0.17)
        for axes, metric in ((left, "forget_accuracy_test"), (right, "retain_drop_test")):
            values = 100 * np.array([row.metrics[metric] for row in own])
            heights = place + rng.uniform(-0.1, 0.1, len(values))
            color = method_style(f"ppo-{world}").color
            axes.plot(values, heights, ".", color=color, alpha=0.25, markersize=4)
            label = f"{world}: mean" if axes is left and setting == lines[0] else None
            style = {"markeredgecolor": "black", "markersize": 7}
            axes.plot(values.mean(), place, "D", color=color, label=label, **style)
    left.set_yticks(range(len(lines)), lines)
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=1.0)
    left.set_xlim(-0.15, 100)
    left.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    dress(left, "accuracy left on the forgotten class, %", "", "What is left")
    dress(right, "accuracy lost on the others, points", "", "What it costs")
    figure.legend(loc="outside upper right", ncols=len(WORLDS), frameon=False, fontsize=9)
    return save(figure, path)


def _settings(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of policies by world and kind of network; of new classes where both are known."""
    found = {}
    for editor, own in group_by(rows, "method").items():
        for world in WORLDS:
            setting = editor.removeprefix(f"policy-{world}-")
            if setting != editor and not setting.endswith("-seen-class"):
                found[world, setting.removesuffix("-new-class")] = list(own)
    return found


def adaptation_figure(
    courses: Mapping[str, Course], instant: Sequence[Row], world: str, path: Path
) -> Figure:
    """How good the edits of searches are after so many evaluations."""
    return learning_curves(
        {name: adaptation_score(course, instant) for name, course in courses.items()},
        {name: course.evaluations for name, course in courses.items()},
        "(1 − forget accuracy) · (1 − drop of the rest)",
        path,
        title=f"Edits of new networks for new classes ({world})",
        percent=False,
    )


def adaptation_score(course: Course, instant: Sequence[Row]) -> Runs:
    """Share of the request fulfilled times share of the rest kept, ``[B, K]``."""
    base = np.array(
        [r.metrics["retain_accuracy_test"] + r.metrics["retain_drop_test"] for r in instant]
    )
    drop = np.clip(base[:, None] - course.curves["retain"], 0.0, 1.0)
    return (1.0 - course.curves["forget"]) * (1.0 - drop)


def sequence_figure(rows: Sequence[Row], metric: str, path: Path) -> Figure:
    """A metric of `SEQUENCE_LABELS` after every request."""
    curves = sequence_curves(rows, metric)
    return learning_curves(
        curves,
        {name: np.arange(1, runs.shape[1] + 1) for name, runs in curves.items()},
        SEQUENCE_LABELS[metric],
        path,
        title="One request after another",
        log_x=False,
        xlabel="requests",
    )


def sequence_curves(rows: Sequence[Row], metric: str) -> dict[str, Runs]:
    """``{editor: [runs, requests]}``."""
    curves: dict[str, list[np.ndarray]] = {}
    for editor, own in group_by(rows, "method").items():
        name, _, _ = editor.rpartition("-after-")
        curves.setdefault(name, []).append(np.array([row.metrics[metric] for row in own]))
    return {name: np.stack(steps, axis=1) for name, steps in curves.items()}
