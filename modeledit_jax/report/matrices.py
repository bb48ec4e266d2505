"""Matrices as pictures: how an edit changes the weights, and what is taken for what."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from modeledit_jax.report.style import FONT, dress, save

_MAX_NUMBERED_CLASSES = 20


def edit_heatmap(
    delta: Mapping[str, Num[np.ndarray, "_d _h"]],
    path: str | Path,
    *,
    title: str = "Change of the weights, edited − base",
) -> Figure:
    """Weight changes side by side, in one diverging color scale symmetric about zero.

    The scale is shared, so that sizes compare; it ends at the 99.5th percentile of ``|Δ|`` (with
    arrows on the color bar), so that a single weight does not bleach the rest.

    Args:
      delta: ``{panel title: [D, H]}`` edited minus base; rows are inputs, columns outputs.
      path: PNG to write.
      title: of the figure.

    Returns:
      The figure, with one axes per matrix before that of the color bar.
    """
    sizes = np.concatenate([np.abs(matrix).ravel() for matrix in delta.values()])
    limit = float(np.quantile(sizes, 0.995)) or float(sizes.max()) or 1.0
    figure = Figure(figsize=(1.6 + 3.2 * len(delta), 5.2), layout="constrained")
    panels = figure.subplots(1, len(delta), squeeze=False)[0]
    for axes, (name, matrix) in zip(panels, delta.items(), strict=True):
        image = axes.imshow(
            matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
        )
        dress(axes, "output unit", "input unit" if axes is panels[0] else "", name, grid=False)
    extend = "both" if sizes.max() > limit else "neither"
    bar = figure.colorbar(image, ax=list(panels), extend=extend, pad=0.02)
    bar.set_label("change of the weight", fontsize=FONT)
    figure.suptitle(title, fontsize=FONT + 2)
    return save(figure, path)


def confusion_before_after(
    before: Num[np.ndarray, "c c"],
    after: Num[np.ndarray, "c c"],
    class_names: Sequence[str],
    path: str | Path,
    *,
    forgotten: int | None = None,
    title: str = "Predictions before and after the edit, % of the true class",
) -> Figure:
    """Two confusion matrices, each row in percent of its true class.

    Numbers are written into the cells up to 20 classes. A class without examples has an empty
    row.

    Args:
      before: ``[C, C]`` counts or weights of the unedited network, true class in rows.
      after: the same of the edited network.
      class_names: C names.
      path: PNG to write.
      forgotten: class whose row and column are framed.
      title: of the figure.

    Returns:
      The figure, with the axes before, after and of the color bar.

    Raises:
      ValueError: if the number of names is not C.
    """
    if len(class_names) != len(before):
        raise ValueError(f"{len(class_names)} class names for {len(before)} classes; pass one each")
    side = min(max(5.0, 0.55 * len(before) + 1.2), 12.0)
    figure = Figure(figsize=(2 * side + 1, side + 0.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, counts, name in zip(panels, (before, after), ("before", "after"), strict=True):
        totals = np.sum(counts, axis=1, keepdims=True)
        shares = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        ylabel = "true class" if axes is panels[0] else ""
        dress(axes, "predicted class", ylabel, name, grid=False)
        _label_classes(axes, class_names, forgotten)
        if len(before) <= _MAX_NUMBERED_CLASSES:
            _write_shares(axes, shares)
    bar = figure.colorbar(image, ax=list(panels), pad=0.02, shrink=0.9)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    bar.set_label("share of the true class", fontsize=FONT)
    figure.suptitle(title, fontsize=FONT + 2)
    return save(figure, path)


def _label_classes(axes: Axes, names: Sequence[str], forgotten: int | None) -> None:
    """Class names on both axes; row and column of the forgotten class framed, its name bold."""
    classes = len(names)
    size = FONT - 1 if classes <= _MAX_NUMBERED_CLASSES else 5
    turned = 90 if classes * max(map(len, names)) > 40 else 0
    axes.set_xticks(range(classes), names, rotation=turned, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    if forgotten is None:
        return
    look: dict[str, Any] = {"fill": False, "edgecolor": "#D55E00", "linewidth": 2, "clip_on": False}
    axes.add_patch(Rectangle((-0.5, forgotten - 0.5), classes, 1, **look))
    axes.add_patch(Rectangle((forgotten - 0.5, -0.5), 1, classes, **look))
    for label in (axes.get_xticklabels()[forgotten], axes.get_yticklabels()[forgotten]):
        label.set_color("#D55E00")
        label.set_fontweight("bold")


def _write_shares(axes: Axes, shares: np.ndarray) -> None:
    """Percent on the diagonal and wherever it is at least one half, white on dark cells."""
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT - 2}
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005 or (row == column and np.isfinite(share)):
            color = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", color=color, **look)
