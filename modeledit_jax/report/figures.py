"""The project's figures. Each takes arrays and a path, writes a PNG and returns the Figure.

Built on `matplotlib.figure.Figure` alone: no pyplot, so no backend is chosen, no global state is
touched and a headless machine draws the same picture. Every editor has one fixed style in every
figure, with marker and line besides the color so that figures also read in gray.
"""

import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Num
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from modeledit_jax.evaluation.statistics import bootstrap_band
from modeledit_jax.report.summary import atomic_write_bytes

DPI = 150
_MAX_NUMBERED_CLASSES = 20
FONT = 11
"""Points of axis labels, from which the other sizes follow."""


class Style(NamedTuple):
    """How an editor is drawn: color, marker and line style of matplotlib."""

    color: str
    marker: str
    line: str


# Okabe & Ito's palette, safe for the common forms of color blindness; mask and shift of one
# method share a hue family, a marker and differ in line style. Image and language editors never
# meet in one figure and may share colours.
_STYLES = {
    "original": Style("#7F7F7F", "X", ":"),
    "retrain": Style("#000000", "*", "-"),
    "retrain-2": Style("#4D4D4D", "P", "--"),
    "logit-mask": Style("#8C564B", "d", "-."),
    "ppo-shift": Style("#0072B2", "o", "-"),
    "ppo-mask": Style("#56B4E9", "o", "--"),
    "openes-shift": Style("#D55E00", "s", "-"),
    "openes-mask": Style("#E69F00", "s", "--"),
    "snes-shift": Style("#007A5E", "^", "-"),
    "snes-mask": Style("#44C29B", "^", "--"),
    "random-search-shift": Style("#882255", "v", "-"),
    "random-search-mask": Style("#CC79A7", "v", "--"),
    "rledit": Style("#0072B2", "o", "-"),
    "hiedit": Style("#D55E00", "s", "-"),
    "mend": Style("#009E73", "^", "--"),
    "malmen": Style("#E69F00", "D", "--"),
    "dafnet": Style("#CC79A7", "v", "--"),
    "ft": Style("#8C564B", "d", "-."),
    "ft-l": Style("#8C564B", "d", "-."),
    "ft-m": Style("#C49C94", "d", ":"),
    "ultraedit": Style("#117733", "P", "-."),
    "hiedit-ste": Style("#CC79A7", "s", "--"),
    "random-k": Style("#332288", "<", ":"),
    "fixed-k": Style("#999933", "p", ":"),
    "top-norm-k": Style("#56B4E9", ">", ":"),
    "rome": Style("#882255", "<", ":"),
    "memit": Style("#56B4E9", ">", ":"),
    "prune": Style("#999933", "p", ":"),
    "rect": Style("#332288", "h", ":"),
    "alphaedit": Style("#44C29B", "H", ":"),
    "clp": Style("#332288", "D", "-."),
    "mindiff": Style("#7A5FC7", "d", "-."),
    "leace": Style("#8A8A00", "p", ":"),
    "inlp": Style("#DDCC77", "h", ":"),
    "neuron-ablation": Style("#8C564B", "P", ":"),
    "random-edit": Style("#EEBFA0", "X", ":"),
    "last-layer-refit": Style("#661100", "<", ":"),
    "dixon-rebalancing": Style("#4C7A1F", "8", "--"),
    "reweighing": Style("#A6D854", ">", "--"),
    "other-seed": Style("#4D4D4D", "D", ":"),
    "threshold-optimizer": Style("#117733", "s", "--"),
    "tfidf": Style("#A0A0A0", "s", ":"),
    "fair-oracle": Style("#000000", "*", ":"),
    "biased-oracle": Style("#BFBFBF", "*", ":"),
}
_OTHER_COLOURS = ("#332288", "#999933", "#661100", "#A6D854", "#AA4499", "#B3A5D6")
_OTHER_MARKERS = ("D", "p", "h", "<", ">")


def editor_style(editor: str) -> Style:
    """The fixed style of an editor; a name not in the table gets one from a hash of the name.

    A search that starts elsewhere, ``<editor>-from-…``, is drawn as the editor, but dotted.
    """
    own, start, _ = editor.partition("-from-")
    if own in _STYLES:
        return _STYLES[own]._replace(line=":") if start else _STYLES[own]
    code = zlib.crc32(editor.encode())
    color = _OTHER_COLOURS[code % len(_OTHER_COLOURS)]
    marker = _OTHER_MARKERS[code // len(_OTHER_COLOURS) % len(_OTHER_MARKERS)]
    return Style(color, marker, "-.")


def learning_curves(
    curves: Mapping[str, Num[np.ndarray, "b k"]],
    evaluations: Mapping[str, Num[np.ndarray, " k"]],
    ylabel: str,
    path: str | Path,
    *,
    title: str = "Best edit so far",
    log_x: bool = True,
    percent: bool = True,
    target: float | None = None,
    xlabel: str = "reward evaluations",
) -> Figure:
    """Interquartile mean of B runs against reward evaluations, with its 95% bootstrap band.

    Args:
      curves: ``{editor: [B, K]}`` fractions (or other units with ``percent=False``).
      evaluations: ``{editor: [K]}`` reward evaluations spent at each point, positive if
        ``log_x``.
      ylabel: quantity on the y axis, with its unit if it is no percentage.
      path: PNG to write.
      title: of the figure.
      log_x: logarithmic axis of evaluations.
      percent: show fractions as percent.
      target: height of a dotted line, e.g. the score of a second retraining.
      xlabel: of what is counted instead of reward evaluations.

    Returns:
      The figure: one line and one band per editor, in the order given.

    Raises:
      ValueError: if an editor lacks its evaluations or a curve is not finite.
    """
    missing = sorted(curves.keys() - evaluations.keys())
    if missing:
        raise ValueError(f"evaluations of {missing} are absent; pass one [K] array per editor")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if target is not None:
        axes.axhline(target, color="black", linestyle=":", linewidth=1.2, label="target")
    for editor, runs in curves.items():
        style, x = editor_style(editor), np.asarray(evaluations[editor])
        center, low, high = bootstrap_band(runs)
        axes.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)
        axes.plot(x, center, color=style.color, linestyle=style.line, linewidth=2, label=editor)
    if log_x:
        axes.set_xscale("log")
        spent = np.concatenate([np.asarray(evaluations[editor]) for editor in curves])
        few_decades = spent.max() < 1_000 * spent.min()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    dress(axes, xlabel, ylabel, f"{title}\nIQM of runs, 95% bootstrap band")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside right center", fontsize=FONT - 1, frameon=False)
    return save(figure, path)


def forget_retain_plane(
    points: Mapping[str, tuple[Num[np.ndarray, " b"], Num[np.ndarray, " b"]]],
    path: str | Path,
    *,
    original: tuple[float, float],
    retrain: tuple[float, float] | None = None,
    title: str = "What is forgotten against what is kept",
) -> Figure:
    """Forget against retain accuracy: the whole plane and a close-up of the corner worth reaching.

    Tasks are faint, their mean is bold. The corner, forget <= 1% and retain at most one point
    below the original, is shaded. The close-up has a symmetric logarithmic forget axis (linear
    below 0.1%), so that 0%, 0.01% and 1% stand apart.

    Args:
      points: ``{editor: (forget [B], retain [B])}``, accuracies 0...1 over B tasks or runs.
      path: PNG to write.
      original: (forget, retain) accuracy of the unedited network.
      retrain: the same of the retrained network, the point to reach.
      title: of the figure.

    Returns:
      The figure, with the whole plane and the close-up as its two axes.
    """
    figure = Figure(figsize=(12.5, 5), layout="constrained")
    plane, close = figure.subplots(1, 2)
    for axes in (plane, close):
        _shade_corner(axes, original[1] - 0.01)
        for editor, (forget, retain) in points.items():
            style = editor_style(editor)
            look: dict[str, Any] = {"color": style.color, "marker": style.marker}
            axes.scatter(forget, retain, s=24, alpha=0.3, linewidths=0, **look)
            mean = np.mean(forget), np.mean(retain)
            edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 1.2}
            axes.scatter(*mean, s=120, zorder=4, label=editor, **look, **edge)
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


def dress(axes: Axes, xlabel: str, ylabel: str, title: str, grid: bool = True) -> None:
    """Labels, readable tick size, a light grid behind the data and no box."""
    axes.set_xlabel(xlabel, fontsize=FONT)
    axes.set_ylabel(ylabel, fontsize=FONT)
    axes.set_title(title, fontsize=FONT + 1)
    axes.tick_params(labelsize=FONT - 1)
    if grid:
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: str | Path) -> Figure:
    """Renders to memory, then writes the PNG in one step; returns the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    atomic_write_bytes(path, buffer.getvalue())
    return figure


def _shade_corner(axes: Axes, floor: float) -> None:
    """Shade forget <= 1% and retain >= floor."""
    corner = Rectangle((-1, floor), 1.01, 2, color="#009E73", alpha=0.12, linewidth=0, zorder=0)
    corner.set_label("forget ≤ 1% and\nretain ≥ original − 1 point")
    axes.add_patch(corner)


def _mark_reference(axes: Axes, name: str, point: tuple[float, float]) -> None:
    """A hollow marker for a network that no editor made, so that points below stay visible."""
    style = editor_style(name)
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
