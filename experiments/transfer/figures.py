"""Figures of the transfer experiment: edits without evaluations, adaptation, requests in turn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.transfer.config import Config
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.style import dotted, dress, method_style, save
from modeledit_jax.report.table import Row, curve_matrix, group_by, select

Runs = Float[np.ndarray, "runs k"]

STYLES = {
    "policy-shift": Style("#332288", "<", "-."),
    "policy-mask": Style("#AA4499", "h", "-."),
}
"""Of policies."""

SEQUENCE_LABELS = {
    "worst_forgotten_test": "highest accuracy on a class asked for",
    "rest_drop_test": "accuracy the others have lost",
}


def zero_shot_figure(rows: Sequence[Row], config: Config, path: Path) -> Figure:
    """Every edit of every kind of network as a dot, and their means; a line for each kind."""
    groups = zero_shot_groups(rows, config)
    lines = list(dict.fromkeys(kind for _, kind in groups))
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rng = np.random.default_rng(0)
    for (world, kind), edits in groups.items():
        place = lines.index(kind) + (0.17 if world == "mask" else -0.17)
        for axes, metric in ((left, "forget_accuracy_test"), (right, "retain_drop_test")):
            values = 100 * np.array([row.metrics[metric] for row in edits])
            heights = place + rng.uniform(-0.1, 0.1, len(values))
            color = method_style(f"ppo-{world}").color
            axes.plot(values, heights, ".", color=color, alpha=0.25, markersize=4)
            label = f"{world}: mean" if axes is left and kind == lines[0] else None
            style = {"markeredgecolor": "black", "markersize": 7}
            axes.plot(values.mean(), place, "D", color=color, label=label, **style)
    left.set_yticks(range(len(lines)), lines)
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=1.0)
    left.set_xlim(-0.15, 100)
    left.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
    dress(left, "accuracy left on the forgotten class, %", "", "What is left")
    dress(right, "accuracy lost on the others, points", "", "What it costs")
    worlds = {world for world, _ in groups}
    figure.legend(loc="outside upper right", ncols=len(worlds), frameon=False, fontsize=9)
    return save(figure, path)


def zero_shot_groups(rows: Sequence[Row], config: Config) -> dict[tuple[str, str], list[Row]]:
    """Rows of policies by world and kind of network; of new classes where both are known."""
    found: dict[tuple[str, str], list[Row]] = {}
    for world in config.worlds:
        for row in select(rows, method=f"policy-{world}"):
            if not row.factors.get("seen_class"):
                found.setdefault((world, _kind_of_network(row, config)), []).append(row)
    return found


def _kind_of_network(row: Row, config: Config) -> str:
    if row.factors["data"] != config.dataset:
        return str(row.factors["data"])
    if row.factors["network"] != config.networks[0]:
        return str(row.factors["network"])
    if row.factors["seen_network"]:
        return "seen network"
    return "new network" if row.factors["classes"] == 1 else "new network, pairs"


def adaptation_figure(rows: Sequence[Row], config: Config, world: str, path: Path) -> Figure:
    """How good the edits of searches are after so many evaluations.

    Args:
      rows: of one world, with curves or (of the policies' edits as they are) without.
      config: the policy is shown with its largest budget alone: the others lie on the same line.
      world: for the title.
      path: PNG to write.
    """
    largest = {config.search_budget, max(config.budgets, default=0)}
    shown = [row for row in rows if row.curves and row.factors["budget"] in largest]
    scores, evaluations, styles = {}, {}, {}
    for (method, start), runs in group_by(shown, "method", "start").items():
        style = method_style(method, STYLES)
        name = f"{method}, from the mean edit" if start == "mean-edit" else method
        styles[name] = dotted(style) if start == "mean-edit" else style
        scores[name] = adaptation_score(runs)
        evaluations[name] = curve_matrix(runs, "reward_evaluations")[0]
    return learning_curves(
        scores,
        evaluations,
        "(1 − forget accuracy) · (1 − drop of the rest)",
        path,
        title=f"Edits of new networks for new classes ({world})",
        percent=False,
        styles=styles,
    )


def adaptation_score(rows: Sequence[Row]) -> Runs:
    """Share of the request fulfilled times share of the rest kept, ``[B, K]``."""
    base = np.array(
        [row.metrics["retain_accuracy_test"] + row.metrics["retain_drop_test"] for row in rows]
    )
    drop = np.clip(base[:, None] - curve_matrix(rows, "retain_accuracy_test"), 0.0, 1.0)
    return (1.0 - curve_matrix(rows, "forget_accuracy_test")) * (1.0 - drop)


def sequence_figure(rows: Sequence[Row], metric: str, path: Path) -> Figure:
    """A metric of `SEQUENCE_LABELS` after every request."""
    curves = sequence_curves(rows, metric)
    names, styles = {}, {}
    for method, in_turn in curves:
        style = method_style(method, STYLES)
        name = f"{method}, trained in turn" if in_turn else method
        names[method, in_turn], styles[name] = name, dotted(style) if in_turn else style
    return learning_curves(
        {names[variant]: runs for variant, runs in curves.items()},
        {names[variant]: np.arange(1, runs.shape[1] + 1) for variant, runs in curves.items()},
        SEQUENCE_LABELS[metric],
        path,
        title="One request after another",
        log_x=False,
        xlabel="requests",
        styles=styles,
    )


def sequence_curves(rows: Sequence[Row], metric: str) -> dict[tuple[str, bool], Runs]:
    """``{(method, trained in turn): [runs, requests]}``."""
    return {
        variant: np.stack(
            [
                np.array([row.metrics[metric] for row in step])
                for step in group_by(runs, "after").values()
            ],
            axis=1,
        )
        for variant, runs in group_by(rows, "method", "in_turn").items()
    }
