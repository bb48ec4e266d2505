"""Figures of a long sequence of edits: scores on the way, memory by age, where was edited.

`modeledit_jax.report.style` holds the style.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
    ScalarFormatter,
)

from modeledit_jax.evaluation.statistics import bootstrap_band
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.style import FONT, dress, method_style, save

Runs = Num[np.ndarray, "b p"]
"""B runs (seeds) at P points."""


def edit_trajectories(
    curves: Mapping[str, Mapping[str, Runs]],
    edits: Num[np.ndarray, " p"],
    path: str | Path,
    *,
    title: str = "What the model knows while it is edited",
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Scores of the edits so far against their number, a panel for every metric.

    Args:
      curves: ``{metric: {method: [B, P]}}``, fractions.
      edits: ``[P]`` edits made at each point.
      path: PNG to write.
      title: of the figure.
      styles: see `method_style`.

    Returns:
      The figure: per metric one axes, with one line and, of several seeds, one band per method.

    Raises:
      ValueError: there is nothing to draw, or a curve is not finite.
    """
    if not curves:
        raise ValueError("no metric to draw: pass {metric: {method: runs}}")
    columns = 2 if len(curves) > 1 else 1
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.4 + 4.6 * columns, 0.8 + 3.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (metric, runs) in zip(panels, curves.items(), strict=False):
        for method, values in runs.items():
            _draw_runs(axes, method, edits, values, styles)
        dress(axes, "edits made", "", metric.replace("_", " "))
        _fractions(axes)
        _doubling(axes, edits)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
    _legend_beside(figure, panels[0])
    figure.suptitle(_with_band(title, curves), fontsize=FONT + 2)
    return save(figure, path)


def _doubling(axes: Axes, edits: Num[np.ndarray, " p"]) -> None:
    """Numbers of edits that are asked about lie ever further apart."""
    axes.set_xscale("log")
    axes.set_xticks([count for index, count in enumerate(edits) if (len(edits) - index) % 2])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())


def retention_curve(
    curves: Mapping[str, Runs],
    ages: Num[np.ndarray, " g"],
    path: str | Path,
    *,
    title: str = "How well edits are remembered, by their age",
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Efficacy after the last edit, of groups of edits of like age.

    Args:
      curves: ``{method: [B, G]}``, fractions.
      ages: ``[G]`` mean number of edits made since.
      path: PNG to write.
      title: of the figure.
      styles: see `method_style`.

    Returns:
      The figure, with one line per method; the latest edits are on the left.

    Raises:
      ValueError: a curve is not finite.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for method, values in curves.items():
        _draw_runs(axes, method, ages, values, styles)
    dress(axes, "edits made since", "efficacy at the end", _with_band(title, {"": curves}))
    _fractions(axes)
    _legend_beside(figure, axes)
    return save(figure, path)


def selection_heatmap(
    masks: Mapping[str, Num[np.ndarray, "p m"]],
    modules: Sequence[str],
    edits: Num[np.ndarray, " p"],
    path: str | Path,
    *,
    title: str = "Share of the edits that changed each module",
) -> Figure:
    """Which modules were changed along a sequence of edits, a panel for every method.

    Args:
      masks: ``{method: [P, M]}``, shares 0…1 of the edits since the last point.
      modules: M names.
      edits: ``[P]`` edits made at each point.
      path: PNG to write.
      title: of the figure.

    Returns:
      The figure, with one axes per method before that of the color bar; row 0 is the first module.

    Raises:
      ValueError: there is nothing to draw, or the masks are not of these modules.
    """
    shapes = {name: np.shape(values) for name, values in masks.items()}
    if not masks or any(shape != (len(edits), len(modules)) for shape in shapes.values()):
        raise ValueError(
            f"masks must be [points, modules] = {(len(edits), len(modules))}, got {shapes}"
        )
    size = 3.2 + 2.5 * len(masks), max(3.0, 1.6 + 0.3 * len(modules))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(masks), squeeze=False, sharey=True)[0]
    for axes, (name, values) in zip(panels, masks.items(), strict=True):
        image = axes.imshow(
            np.asarray(values).T, cmap="Blues", vmin=0, vmax=1, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        dress(axes, "edits made", "", name, grid=False)
        shown = np.unique(np.linspace(0, len(edits) - 1, min(4, len(edits))).round().astype(int))
        axes.set_xticks(shown, [f"{edits[place]:,.0f}" for place in shown])
    panels[0].set_yticks(range(len(modules)), modules)
    bar = figure.colorbar(image, ax=list(panels), pad=0.02)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.set_label("of the edits", fontsize=FONT)
    figure.suptitle(title, fontsize=FONT + 2)
    return save(figure, path)


def _draw_runs(
    axes: Axes,
    method: str,
    x: np.ndarray,
    runs: np.ndarray,
    styles: Mapping[str, Style] | None,
) -> None:
    """A line of the interquartile mean and, of several runs, its 95 % band."""
    style = method_style(method, styles)
    center, low, high = bootstrap_band(runs)
    if np.isfinite(low).all():
        axes.fill_between(x, low, high, color=style.color, alpha=0.15, linewidth=0)
    axes.plot(
        x, center, color=style.color, linestyle=style.line, marker=style.marker, markersize=4,
        linewidth=1.8, label=method,
    )  # fmt: skip


def _fractions(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _legend_beside(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=FONT - 1, frameon=False)


def _with_band(title: str, curves: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """The title, and what the bands are where there are any."""
    several = any(len(runs) > 1 for group in curves.values() for runs in group.values())
    return f"{title}\nIQM of seeds, 95% bootstrap band" if several else title
