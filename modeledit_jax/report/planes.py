"""Planes of two qualities: forgetting against keeping, unfairness against utility."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.style import FONT, dress, method_style, save

Runs: TypeAlias = Num[np.ndarray, " _b"]

_SHADE = "#009E73"
_REPS = 2_000
_RADII = (11, 15, 20, 26, 33, 42, 54)  # points between a mean and its number


def forget_retain_plane(
    points: Mapping[str, tuple[Num[np.ndarray, " b"], Num[np.ndarray, " b"]]],
    path: str | Path,
    *,
    original: tuple[float, float],
    retrain: tuple[float, float] | None = None,
    title: str = "What is forgotten against what is kept",
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Forget against retain accuracy: the whole plane and a close-up of the corner worth reaching.

    Tasks are faint, their mean is bold. The corner, forget <= 1% and retain at most one point
    below the original, is shaded. The close-up has a symmetric logarithmic forget axis (linear
    below 0.1%), so that 0%, 0.01% and 1% stand apart.

    Args:
      points: ``{method: (forget [B], retain [B])}``, accuracies 0...1 over B tasks or runs.
      path: PNG to write.
      original: (forget, retain) accuracy of the unedited network.
      retrain: the same of the retrained network, the point to reach.
      title: of the figure.
      styles: see `method_style`.

    Returns:
      The figure, with the whole plane and the close-up as its two axes.
    """
    figure = Figure(figsize=(12.5, 5), layout="constrained")
    plane, close = figure.subplots(1, 2)
    for axes in (plane, close):
        _shade_corner(axes, original[1] - 0.01)
        for method, (forget, retain) in points.items():
            style = method_style(method, styles)
            look: dict[str, Any] = {"color": style.color, "marker": style.marker}
            axes.scatter(forget, retain, s=24, alpha=0.3, linewidths=0, **look)
            mean = np.mean(forget), np.mean(retain)
            edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 1.2}
            axes.scatter(*mean, s=120, zorder=4, label=method, **look, **edge)
        _mark_reference(axes, "original", original)
        if retrain is not None:
            _mark_reference(axes, "retrain", retrain)
    dress(plane, "forget accuracy", "retain accuracy", "the whole plane")
    dress(close, "forget accuracy (logarithmic above 0.1%)", "retain accuracy", "the corner")
    kept = np.concatenate([retain for _, retain in points.values()])
    references = [original[1]] if retrain is None else [original[1], retrain[1]]
    _zoom(plane, close, np.append(kept, references), original[1])
    figure.suptitle(title, fontsize=FONT + 2)
    handles, labels = plane.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=FONT - 1, frameon=False)
    return save(figure, path)


def utility_fairness_plane(
    points: Mapping[str, tuple[Runs, Runs]],
    path: str | Path,
    *,
    original: tuple[float, float],
    xlabel: str = "mean FPED + FNED (lower is fairer)",
    ylabel: str = "AUC of plain comments (higher is better)",
    title: str = "What fairness costs in utility",
    margin: float = 0.0,
    off_front: Collection[str] = (),
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Unfairness against utility of every method, with the Pareto front of the methods' means.

    Runs are faint, their mean is bold with its 95% bootstrap interval, which includes the spread
    between base networks that a paired comparison removes. Means are numbered; the legend, in the
    order given, has the names. The front starts at the original, as doing nothing is an option.

    Args:
      points: ``{method: (x [B], y [B])}`` over B runs, finite; low x and high y are good.
      path: PNG to write.
      original: (x, y) of the unedited network.
      xlabel: quantity of unfairness.
      ylabel: quantity of utility.
      title: of the figure.
      margin: utility may fall by so much to count as at least as good; 0.005 for the
        non-inferiority margin of half a point of AUC.
      off_front: what is drawn but competes not for the front: no edits of the network.
      styles: see `method_style`.

    Returns:
      The figure.

    Raises:
      ValueError: if there are no points, or the two arrays of a method differ in length, are
        empty or are not finite.
    """
    _check_points(points)
    height = max(6.0, 1.6 + 0.235 * (len(points) + 4))
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots()
    means = {method: (float(np.mean(x)), float(np.mean(y))) for method, (x, y) in points.items()}
    for number, (method, (x, y)) in enumerate(points.items(), start=1):
        _draw_method(axes, f"{number}  {method}", method_style(method, styles), x, y)
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.3}
    marker = method_style("original").marker
    axes.scatter(*original, s=230, marker=marker, zorder=6, label="original (no edit)", **hollow)
    rivals = [mean for method, mean in means.items() if method not in off_front]
    _draw_front(axes, pareto_front(np.array([original, *rivals])))
    axes.margins(0.07)
    better = f"as fair, and within\n{margin:g} of" if margin else "at least as good\nas"
    _shade_better(axes, original[0], original[1] - margin, f"{better} the original")
    repeated = max(len(x) for x, _ in points.values()) > 1
    note = "mean of runs, 95% bootstrap interval" if repeated else "one run each"
    dress(axes, xlabel, ylabel, f"{title}\n{note}")
    figure.legend(loc="outside right center", fontsize=FONT - 1, frameon=False)
    _number_means(figure, axes, np.array([*means.values(), original]))
    return save(figure, path)


def pareto_front(points: Num[np.ndarray, "n 2"]) -> Num[np.ndarray, "m 2"]:
    """Points (x, y) that no other beats in low x and high y, by rising x; one of equal points."""
    ranked = points[np.lexsort((-points[:, 1], points[:, 0]))]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked[:-1, 1])])
    return ranked[ranked[:, 1] > best_before]


def _shade_corner(axes: Axes, floor: float) -> None:
    """Shade forget <= 1% and retain >= floor."""
    corner = Rectangle((-1, floor), 1.01, 2, color="#009E73", alpha=0.12, linewidth=0, zorder=0)
    corner.set_label("forget ≤ 1% and\nretain ≥ original − 1 point")
    axes.add_patch(corner)


def _mark_reference(axes: Axes, name: str, point: tuple[float, float]) -> None:
    """A hollow marker for a network that no method made, so that points below stay visible."""
    style = method_style(name)
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.3}
    label = f"{name} (reference)"
    axes.scatter(*point, s=230, marker=style.marker, zorder=5, label=label, **hollow)


def _zoom(plane: Axes, close: Axes, retain: np.ndarray, original_retain: float) -> None:
    """Set the limits of both panels and frame the close-up in the whole plane.

    ``retain`` holds every retain accuracy in the figure.
    """
    lowest, top = float(retain.min()), float(retain.max())
    plane.set_xlim(-0.03, 1.03)
    plane.set_ylim(max(0.0, lowest - 0.05) - 0.02, 1.02)
    bottom = original_retain - 0.02
    close.set_xscale("symlog", linthresh=1e-3, linscale=0.6)
    close.set_xlim(-2.5e-4, 0.1)
    close.set_ylim(bottom, top + 0.1 * (top - bottom))
    close.set_xticks([0, 1e-3, 1e-2, 1e-1])
    close.xaxis.set_minor_formatter(NullFormatter())
    close.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}%"))
    close.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axis in (plane.xaxis, plane.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    low, high = close.get_ylim()
    frame = Rectangle((-2.5e-4, low), 0.1, high - low, fill=False, linewidth=1, linestyle="--")
    plane.add_patch(frame)


def _check_points(points: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    if not points:
        raise ValueError("no methods to draw; pass {method: (x, y)}")
    for method, (x, y) in points.items():
        if x.shape != y.shape or x.size == 0 or not np.isfinite([x, y]).all():
            raise ValueError(f"{method}: {len(x)} x and {len(y)} y; pass one finite pair per run")


def _draw_front(axes: Axes, front: Num[np.ndarray, "m 2"]) -> None:
    if len(front) == 1:  # one method that is best at both has no line
        return
    look: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.1, "zorder": 4}
    axes.step(*front.T, where="post", label="Pareto front of the means", **look)


def _draw_method(axes: Axes, name: str, style: Style, x: np.ndarray, y: np.ndarray) -> None:
    """Runs, mean and its intervals in both directions."""
    look: dict[str, Any] = {"color": style.color, "marker": style.marker}
    axes.scatter(x, y, s=20, alpha=0.25, linewidths=0, zorder=2, **look)
    mean = float(np.mean(x)), float(np.mean(y))
    if len(x) > 1:
        line: dict[str, Any] = {"color": style.color, "linewidth": 1.4, "zorder": 3}
        of_x, of_y = (stratified_bootstrap(v[:, None], np.mean, reps=_REPS) for v in (x, y))
        axes.plot(of_x[1:], [mean[1]] * 2, **line)
        axes.plot([mean[0]] * 2, of_y[1:], **line)
    edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.8}
    area = 170 if style.marker in "*PX" else 95  # these fill less of their square
    axes.scatter(mean[0], mean[1], s=area, zorder=5, label=name, **look, **edge)


def _shade_better(axes: Axes, x: float, floor: float, label: str) -> None:
    """Shades what is as fair and as useful as the original, to the ends of the axes."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    look: dict[str, Any] = {"color": _SHADE, "alpha": 0.1, "linewidth": 0, "zorder": 0}
    axes.add_patch(Rectangle((left, floor), x - left, top - floor, label=label, **look))
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _number_means(figure: Figure, axes: Axes, means: np.ndarray) -> None:
    """Writes the number of every mean beside it, where it covers no mean and no other number.

    The last mean is an obstacle alone. A thin line ties a number to a mean that is far away.
    """
    figure.draw_without_rendering()  # the layout fixes where data lie on the page
    points = axes.transData.transform(means) * 72 / figure.dpi
    box = axes.bbox.get_points() * 72 / figure.dpi
    arrow = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.6, "shrinkA": 0.0}
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT - 2, "zorder": 7}
    halo = [withStroke(linewidth=2, foreground="white")]
    taken = points
    for number, (point, mean) in enumerate(zip(points[:-1], means, strict=False), start=1):
        place = _free_place(point, taken, box)
        taken = np.vstack([taken, place])
        tie = arrow if np.hypot(*(place - point)) > _RADII[1] else None
        axes.annotate(str(number), tuple(mean), tuple(place - point), textcoords="offset points",
                      arrowprops=tie, path_effects=halo, **look)  # fmt: skip


def _free_place(point: np.ndarray, others: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The nearest place around a point that is clear of the others, or the clearest one."""
    angles = np.pi / 4 + np.arange(16) * np.pi / 8
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    candidates = (point + np.asarray(_RADII)[:, None, None] * around).reshape(-1, 2)
    gaps = np.linalg.norm(candidates[:, None] - others, axis=-1).min(axis=1)
    inside = ((candidates > box[0] + 6) & (candidates < box[1] - 6)).all(axis=1)
    gaps = np.where(inside, gaps, -1.0)
    clear = np.flatnonzero(gaps >= _RADII[0] - 0.5)
    return candidates[clear[0] if len(clear) else np.argmax(gaps)]
