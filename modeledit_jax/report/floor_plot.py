"""Methods against a floor of chance: intervals in several metrics, the floor shaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeledit_jax.evaluation.statistics import Interval
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.style import FONT, dress, method_style, save

Scale = Literal["linear", "log"]
_LEAST = 1e-4  # what stands for 0 on a logarithmic axis


@dataclass(frozen=True)
class Panel:
    """One metric.

    Attributes:
      title: of the metric.
      intervals: by method; those without a finite point have no mark.
      floor: the range of chance.
      scale: of the axis; on a logarithmic one, values below 1e-4 stand at its edge.
    """

    title: str
    intervals: Mapping[str, Interval]
    floor: tuple[float, float]
    scale: Scale = "linear"


def floor_plot(
    names: Sequence[str],
    panels: Sequence[Panel],
    path: str | Path,
    *,
    title: str,
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """A panel for every metric, in it a row for every method.

    Args:
      names: of the methods; the first is at the top.
      panels: at least one.
      path: PNG to write.
      title: of the figure.
      styles: see `method_style`.

    Returns:
      The figure.

    Raises:
      ValueError: no method or no panel.
    """
    if not names or not panels:
        raise ValueError("there is nothing to draw: give at least one method and one panel")
    size = 2.8 + 2.6 * len(panels), 1.5 + 0.25 * len(names)
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, panel in zip(every, panels, strict=True):
        _draw(axes, names, panel, styles)
    every[0].set_yticks(range(len(names)), names)
    every[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(f"{title}\nshaded: retrained networks among themselves", fontsize=FONT + 2)
    return save(figure, path)


def _draw(
    axes: Axes, names: Sequence[str], panel: Panel, styles: Mapping[str, Style] | None
) -> None:
    logarithmic = panel.scale == "log"
    least = _LEAST if logarithmic else -np.inf
    low, high = np.maximum(panel.floor, least)
    axes.axvspan(low, high, color="#009E73", alpha=0.15, linewidth=0)
    for place, name in enumerate(names):
        interval = panel.intervals.get(name)
        if interval is None or not np.isfinite(interval.point):
            continue
        style = method_style(name, styles)
        point, *bounds = np.maximum(interval, least)
        if np.isfinite(bounds).all():
            axes.plot(bounds, [place, place], color=style.color, linewidth=2)
        axes.plot(point, place, marker=style.marker, color=style.color, markersize=6)
    axes.set_xscale(panel.scale)
    dress(axes, "", "", panel.title)
