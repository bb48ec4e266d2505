"""Figures of a bias mitigation: error rates per identity term, scores per term, and what fairness
costs in utility.

Terms are rows, so that 50 of them remain readable. `modeledit_jax.run.figures` holds the style.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Num
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.run.figures import FONT, dress, editor_style, save

Terms: TypeAlias = Num[np.ndarray, " _t"]
Runs: TypeAlias = Num[np.ndarray, " _b"]
Rates: TypeAlias = tuple[Terms, Terms | Mapping[str, Terms], float, float | Mapping[str, float]]
"""Rates of the terms before and after an edit, then the overall rate before and after. ``after``
is one array, or one array (and overall rate) per editor."""

NOT_EDITS = frozenset(
    ("dixon-rebalancing", "reweighing", "other-seed", "tfidf", "fair-oracle", "biased-oracle")
)
"""Classifiers that are trained anew or are no network: no competitors of an edit."""

_BEFORE, _AFTER, _SHADE = "#7F7F7F", "#0072B2", "#009E73"
_ROW_INCHES = 0.24
_LOW, _QUARTER, _MEDIAN, _UPPER, _HIGH = range(5)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_REPS = 2_000
_AROUND = 16
_RADII = (11, 15, 20, 26, 33, 42, 54)  # points between a mean and its number


def dumbbell(
    terms: Sequence[str],
    rates: Mapping[str, Rates],
    held_out: Sequence[bool] | Bool[np.ndarray, " _t"],
    path: str | Path,
    *,
    title: str = "Error rates per identity term, before and after the edit",
) -> Figure:
    """Rates of every term before and after an edit, one panel per kind of rate.

    An edit that works draws the terms towards the vertical line of the overall rate. Terms are
    sorted by the first panel's rate before the edit, highest first; terms without one come last.

    Args:
        terms: T names.
        rates: ``{name of the rate: (before [T], after [T], overall before, overall after)}``,
            fractions 0…1, NaN where undefined; see `Rates` for several editors.
        held_out: of each term, whether the edit was made without counterfactuals that name it.
        path: PNG to write.
        title: of the figure.

    Returns:
        The figure, with one axes per rate; row 0 is the topmost term.

    Raises:
        ValueError: if there is nothing to draw or an array has not one number per term.
    """
    if not terms or not rates:
        raise ValueError(f"a dumbbell needs terms and rates, got {len(terms)} and {len(rates)}")
    held = _one_per_term(terms, "held_out", np.asarray(held_out)).astype(bool)
    panels = {name: _check_rates(terms, name, *rate) for name, rate in rates.items()}
    order = np.argsort(-next(iter(panels.values()))[0], kind="stable")  # NaN sorts last
    figure = Figure(
        figsize=(1.5 + 4.8 * len(panels), 2.2 + _ROW_INCHES * len(terms)), layout="constrained"
    )
    row = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    undefined = False
    for axes, (name, (before, after, overall, overall_after)) in zip(
        row, panels.items(), strict=True
    ):
        dress(axes, name, "", "")
        undefined |= _draw_rates(
            axes, before[order], {editor: v[order] for editor, v in after.items()}
        )
        axes.axvline(overall, color=_BEFORE, linestyle="--", linewidth=1.2, zorder=1)
        for editor, value in overall_after.items():
            axes.axvline(value, color=_colour(editor), linestyle=":", linewidth=1.6, zorder=1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    _name_rows(row[0], terms, order, held)
    row[0].set_xlim(*_rate_limits(panels.values()))
    editors = list(dict.fromkeys(editor for _, after, *_ in panels.values() for editor in after))
    _legend_below(figure, _rate_handles(editors, bool(held.any()), undefined))
    figure.suptitle(title, fontsize=FONT + 2)
    return save(figure, path)


def score_distributions(
    scores: Mapping[str, Num[np.ndarray, " _n"]],
    label: Num[np.ndarray, " _n"],
    groups: Num[np.ndarray, "_n _t"],
    terms: Sequence[str],
    path: str | Path,
    *,
    thresholds: Mapping[str, float] | None = None,
    held_out: Sequence[bool] | Bool[np.ndarray, " _t"] | None = None,
    title: str = "Scores of comments by the identity term they mention",
) -> Figure:
    """Distributions of the logits of every term, non-toxic and toxic comments side by side.

    A row has one bar per model: median, middle half (thick) and 5th to 95th percentile (thin). A
    last row, set apart, holds all comments. Terms are sorted by the first model's median over
    non-toxic comments, highest first: the term to which the model is most unfair is on top.

    Args:
        scores: ``{model: [N]}`` logits, e.g. ``before`` and ``after``; finite.
        label: ``[N]``, 0 non-toxic, 1 toxic; rows with another label are left out.
        groups: ``[N, T]``, positive where the comment mentions the term.
        terms: T names.
        path: PNG to write.
        thresholds: ``{model: logit}`` at which each model decides.
        held_out: of each term, whether the edit was made without counterfactuals that name it.
        title: of the figure.

    Returns:
        The figure, with the axes of non-toxic and of toxic comments.

    Raises:
        ValueError: if shapes do not fit, a score is not finite or a threshold is of no model.
    """
    _check_scores(scores, label, groups, terms, thresholds or {})
    held = np.zeros(len(terms), bool) if held_out is None else np.asarray(held_out)
    held = _one_per_term(terms, "held_out", held).astype(bool)
    rows = np.column_stack([groups > 0, np.ones(len(label), bool)])
    summary = {
        toxic: {model: _row_quantiles(s, rows & (label == toxic)[:, None]) for model, s in
                scores.items()} for toxic in (0, 1)
    }  # fmt: skip
    first = next(iter(summary[0].values()))[:-1, _MEDIAN]
    order = np.argsort(-first, kind="stable")
    height = 2.4 + _ROW_INCHES * max(1.0, 0.55 * len(scores)) * (len(terms) + 1)
    figure = Figure(figsize=(11, height), layout="constrained")
    undefined = False
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, toxic, name in zip(panels, (0, 1), ("non-toxic comments", "toxic comments"),
                                 strict=True):  # fmt: skip
        dress(axes, "logit (positive: toxic)", "", name)
        undefined |= _draw_scores(axes, summary[toxic], order)
        for model, threshold in (thresholds or {}).items():
            axes.axvline(threshold, color=_colour(model), linestyle="--", linewidth=1.3, zorder=1)
    _name_rows(panels[0], terms, order, held, last="all comments")
    handles = [
        *(Patch(color=_colour(model), label=model) for model in scores),
        *(Line2D([], [], color=_colour(model), linestyle="--", label=f"threshold, {model}")
          for model in thresholds or {}),
        *_note_handles(bool(held.any()), undefined),
    ]  # fmt: skip
    _legend_below(figure, handles)
    note = "median, middle half and 5th to 95th percentile"
    figure.suptitle(f"{title}\n{note}", fontsize=FONT + 2)
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
    off_front: Collection[str] = NOT_EDITS,
) -> Figure:
    """Unfairness against utility of every editor, with the Pareto front of the editors' means.

    Runs are faint, their mean is bold with its 95% bootstrap interval, which includes the spread
    between base networks that a paired comparison removes. Means are numbered; the legend, in the
    order given, has the names. The front starts at the original, as doing nothing is an option.

    Args:
        points: ``{editor: (x [B], y [B])}`` over B runs, finite; low x and high y are good.
        path: PNG to write.
        original: (x, y) of the unedited network.
        xlabel: quantity of unfairness.
        ylabel: quantity of utility.
        title: of the figure.
        margin: utility may fall by so much to count as at least as good; 0.005 for the
            non-inferiority margin of half a point of AUC.
        off_front: editors that are drawn but compete not for the front.

    Returns:
        The figure.

    Raises:
        ValueError: if there are no points, or the two arrays of an editor differ in length, are
            empty or are not finite.
    """
    _check_points(points)
    height = max(6.0, 1.6 + 0.235 * (len(points) + 4))
    figure = Figure(figsize=(11, height), layout="constrained")
    axes = figure.subplots()
    means = {editor: (float(np.mean(x)), float(np.mean(y))) for editor, (x, y) in points.items()}
    for number, (editor, (x, y)) in enumerate(points.items(), start=1):
        _draw_editor(axes, f"{number}  {editor}", editor, x, y)
    hollow: dict[str, Any] = {"facecolors": "none", "edgecolors": "black", "linewidths": 1.3}
    marker = editor_style("original").marker
    axes.scatter(*original, s=230, marker=marker, zorder=6, label="original (no edit)", **hollow)
    rivals = [mean for editor, mean in means.items() if editor not in off_front]
    front = pareto_front(np.array([original, *rivals]))
    look: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.0, "zorder": 1}
    axes.step(*front.T, where="post", label="Pareto front of the means", **look)
    axes.margins(0.07)
    _shade_better(axes, original[0], original[1] - margin, margin)
    dress(axes, xlabel, ylabel, f"{title}\nmean of runs, 95% bootstrap interval")
    figure.legend(loc="outside right center", fontsize=FONT - 1, frameon=False)
    _number_means(figure, axes, np.array([*means.values(), original]))
    return save(figure, path)


def pareto_front(points: Num[np.ndarray, "n 2"]) -> Num[np.ndarray, "m 2"]:
    """Points (x, y) that no other beats in low x and high y, by rising x; one of equal points."""
    ranked = points[np.lexsort((-points[:, 1], points[:, 0]))]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(ranked[:-1, 1])])
    return ranked[ranked[:, 1] > best_before]
