"""Values of several variants side by side: every run a point, the mean with its interval."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from modeledit_jax.evaluation.statistics import mean_interval
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.style import FONT, dress, method_style, save

Values = Num[np.ndarray, " s"]
"""Of S runs (seeds)."""


def interval_plot(
    values: Mapping[str, Mapping[str, Values]],
    path: str | Path,
    *,
    title: str,
    unit: str = "%",
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """A panel for every metric, in it a row for every variant.

    Args:
      values: ``{metric: {variant: [S]}}`` in ``unit``; the first metric's variants are the rows.
        A variant without finite values has no mark.
      path: PNG to write.
      title: of the figure.
      unit: of all values.
      styles: see `method_style`.

    Returns:
      The figure; row 0 is the first variant, at the top.

    Raises:
      ValueError: there is nothing to draw, or the metrics have different variants.
    """
    rows = list(next(iter(values.values()), {}))
    if not rows or any(list(variants) != rows for variants in values.values()):
        raise ValueError("every metric needs the same variants, at least one, in the same order")
    size = 2.6 + 2.3 * len(values), 1.5 + 0.34 * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(values), squeeze=False, sharey=True)[0]
    for axes, (metric, variants) in zip(panels, values.items(), strict=True):
        for place, (name, runs) in enumerate(variants.items()):
            _draw(axes, place, method_style(name, styles), np.asarray(runs, np.float64))
        dress(axes, unit, "", metric)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    several = any(len(runs) > 1 for runs in values[next(iter(values))].values())
    note = "\nmean, 95% t-interval, every seed" if several else ""
    figure.suptitle(title + note, fontsize=FONT + 2)
    return save(figure, path)


def _draw(axes: Axes, place: int, style: Style, runs: np.ndarray) -> None:
    if not np.isfinite(runs).all():
        return
    axes.plot(runs, np.full(len(runs), place), "|", color=style.color, alpha=0.5, markersize=9)
    mean, low, high = mean_interval(runs)
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [place, place], color=style.color, linewidth=2)
    axes.plot(mean, place, marker=style.marker, color=style.color, markersize=7)
