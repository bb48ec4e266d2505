"""Figures of a bias mitigation: error rates and scores per identity term.

Terms are rows, so that 50 of them remain readable. `modeledit_jax.report.style` holds the style.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Num
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from modeledit_jax.report.style import FONT, dress, method_style, save

Terms: TypeAlias = Num[np.ndarray, " _t"]
Rates: TypeAlias = tuple[Terms, Terms, float, float]
"""Rate of every term before and after an edit, then the overall rate before and after."""

_BEFORE, _AFTER = "#7F7F7F", "#0072B2"
_ROW_INCHES = 0.24
_QUANTILES, _MEDIAN = (0.05, 0.25, 0.5, 0.75, 0.95), 2


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
      rates: ``{name of the rate: (before [I], after [I], overall before, overall after)}``,
        fractions 0…1, NaN where undefined.
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
    held = _one_per_term(terms, "held_out", held_out).astype(bool)
    pairs = {
        name: np.stack([_one_per_term(terms, name, rate) for rate in both[:2]])
        for name, both in rates.items()
    }
    order = np.argsort(-next(iter(pairs.values()))[0], kind="stable")  # NaN sorts last
    size = max(7.0, 1.5 + 4.8 * len(rates)), 2.2 + _ROW_INCHES * len(terms)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(rates), squeeze=False, sharex=True, sharey=True)[0]
    top = 0.02
    for axes, (name, pair) in zip(panels, pairs.items(), strict=True):
        overall = rates[name][2:]
        dress(axes, name, "", "")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        _draw_rates(axes, pair[:, order], overall)
        top = float(np.nanmax([top, *overall, *pair.ravel()]))
    panels[0].set_xlim(-0.03 * top, 1.04 * top)
    _name_rows(panels[0], terms, order, held)
    undefined = any(np.isnan(pair).any() for pair in pairs.values())
    _legend_below(figure, [*_rate_handles(), *_note_handles(held.any(), undefined)])
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
      groups: ``[N, I]``, positive where the comment mentions the term.
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
    held = np.zeros(len(terms)) if held_out is None else held_out
    held = _one_per_term(terms, "held_out", held).astype(bool)
    quantiles = _quantiles(list(scores.values()), label, groups)
    order = np.argsort(-quantiles[0, 0, :-1, _MEDIAN], kind="stable")
    quantiles = quantiles[:, :, np.append(order, len(order))]  # all comments stay at the bottom
    height = 2.4 + _ROW_INCHES * max(1.0, 0.55 * len(scores)) * (len(terms) + 1)
    figure = Figure(figsize=(11, height), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    lines = {f"threshold, {model}": (x, _color(model)) for model, x in (thresholds or {}).items()}
    for axes, of_label, name in zip(panels, quantiles, ("non-toxic", "toxic"), strict=True):
        dress(axes, "logit (positive: toxic)", "", f"{name} comments")
        _draw_scores(axes, of_label, [_color(model) for model in scores])
        for x, color in lines.values():
            axes.axvline(x, color=color, linestyle="--", linewidth=1.3, zorder=1)
    _name_rows(panels[0], terms, order, held, last="all comments")
    handles: list[Artist] = [Patch(color=_color(model), label=model) for model in scores]
    handles += [Line2D([], [], color=c, linestyle="--", label=n) for n, (_, c) in lines.items()]
    _legend_below(figure, [*handles, *_note_handles(held.any(), np.isnan(quantiles).any())])
    figure.suptitle(f"{title}\nmedian, middle half, 5th to 95th percentile", fontsize=FONT + 2)
    return save(figure, path)


def _one_per_term(terms: Sequence[str], name: str, values: Any) -> np.ndarray:
    """The values in float64, if they are as many as the terms."""
    if np.shape(values) != (len(terms),):
        raise ValueError(f"{name} has shape {np.shape(values)}; pass one value for each of "
                         f"{len(terms)} terms")  # fmt: skip
    return np.asarray(values, np.float64)


def _check_scores(
    scores: Mapping[str, np.ndarray],
    label: np.ndarray,
    groups: np.ndarray,
    terms: Sequence[str],
    thresholds: Mapping[str, float],
) -> None:
    if not scores or not terms or not len(label):
        raise ValueError(f"score distributions need models, terms and comments, got {len(scores)}, "
                         f"{len(terms)} and {len(label)}")  # fmt: skip
    if groups.shape != (len(label), len(terms)):
        raise ValueError(f"groups have shape {groups.shape}; pass a row for each of {len(label)} "
                         f"comments and a column for each of {len(terms)} terms")  # fmt: skip
    for model, values in scores.items():
        if values.shape != label.shape:
            raise ValueError(f"{len(values)} scores of {model!r} for {len(label)} comments; "
                             "pass one each")  # fmt: skip
        if not np.isfinite(values).all():
            raise ValueError(f"{np.sum(~np.isfinite(values))} scores of {model!r} are not finite; "
                             "repair the model or leave it out")  # fmt: skip
    strangers = sorted(thresholds.keys() - scores.keys())
    if strangers:
        raise ValueError(f"thresholds of {strangers} without their scores; pass scores of each")


def _color(model: str) -> str:
    """Gray for the classifier as it was, blue for one edit, the method's own color otherwise."""
    return {"before": _BEFORE, "after": _AFTER}.get(model) or method_style(model).color


def _draw_rates(axes: Axes, pair: np.ndarray, overall: tuple[float, float]) -> None:
    """Draws one panel of a dumbbell from rates ``[2, I]`` in the order of the rows."""
    rows = np.arange(pair.shape[1])
    known = ~np.isnan(pair)
    both = known.all(axis=0)
    axes.hlines(rows[both], *pair[:, both], color="#BBBBBB", linewidth=2.4)
    hollow: dict[str, Any] = {"facecolors": "white", "edgecolors": _BEFORE, "linewidths": 1.6}
    axes.scatter(pair[0, known[0]], rows[known[0]], s=36, zorder=3, **hollow)
    axes.scatter(pair[1, known[1]], rows[known[1]], s=38, zorder=4, color=_AFTER)
    axes.axvline(overall[0], color=_BEFORE, linestyle="--", linewidth=1.2, zorder=1)
    axes.axvline(overall[1], color=_AFTER, linestyle=":", linewidth=1.6, zorder=1)
    _write_undefined(axes, ~both)


def _write_undefined(axes: Axes, missing: np.ndarray) -> None:
    """Says in a row that it has no value, so that an empty row is not taken for zero."""
    look: dict[str, Any] = {"color": "#777777", "style": "italic", "fontsize": FONT - 3}
    look |= {"transform": axes.get_yaxis_transform(), "ha": "right", "va": "center"}
    for row in np.flatnonzero(missing).tolist():
        axes.text(0.99, row, "undefined", **look)


def _name_rows(
    axes: Axes, terms: Sequence[str], order: np.ndarray, held: np.ndarray, last: str | None = None
) -> None:
    """Names of the rows, first at the top; held-out terms bold with an asterisk."""
    names = [f"{terms[i]} *" if held[i] else terms[i] for i in order]
    rows = names if last is None else [*names, last]
    axes.set_yticks(range(len(rows)), rows, fontsize=FONT - 2)
    for tick, i in zip(axes.get_yticklabels(), order, strict=False):
        tick.set_fontweight("bold" if held[i] else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)


def _rate_handles() -> list[Artist]:
    """Legend of a dumbbell."""
    hollow: dict[str, Any] = {"markerfacecolor": "white", "markeredgecolor": _BEFORE}
    none: dict[str, Any] = {"linestyle": "none", "marker": "o"}
    return [
        Line2D([], [], markeredgewidth=1.6, label="before", **none, **hollow),
        Line2D([], [], color=_AFTER, label="after", **none),
        Line2D([], [], color=_BEFORE, linestyle="--", label="overall, before"),
        Line2D([], [], color=_AFTER, linestyle=":", label="overall, after"),
    ]


def _note_handles(any_held: Any, undefined: Any) -> list[Artist]:
    """Legend entries without a line: what an asterisk and an empty row mean."""
    notes = [(any_held, "* held out: not seen by the edit"),
             (undefined, "undefined: no comments of that kind")]  # fmt: skip
    return [Line2D([], [], linestyle="none", label=text) for shown, text in notes if shown]


def _legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """A legend in at most two rows under the panels, where it takes no width from them."""
    columns = len(handles) if len(handles) <= 4 else -(-len(handles) // 2)
    look: dict[str, Any] = {"loc": "outside lower center", "fontsize": FONT - 2, "frameon": False}
    figure.legend(handles=list(handles), ncols=columns, **look)


def _quantiles(scores: Sequence[np.ndarray], label: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """``[2, M, I + 1, 5]``: by label, model and term, then all comments; NaN without comments."""
    rows = np.column_stack([groups > 0, np.ones(len(label), bool)])
    result = np.full((2, len(scores), rows.shape[1], len(_QUANTILES)), np.nan)
    for toxic, model, term in np.ndindex(result.shape[:-1]):
        chosen = scores[model][rows[:, term] & (label == toxic)]
        if len(chosen):
            result[toxic, model, term] = np.quantile(chosen, _QUANTILES)
    return result


def _draw_scores(axes: Axes, quantiles: np.ndarray, colors: Sequence[str]) -> None:
    """Draws the bars of every model from quantiles ``[M, I + 1, 5]`` in the order of the rows."""
    missing = np.isnan(quantiles[0, :, _MEDIAN])
    places = np.linspace(-0.2, 0.2, len(colors)) if len(colors) > 1 else np.zeros(1)
    for place, color, of_model in zip(places, colors, quantiles, strict=True):
        at = np.flatnonzero(~missing) + place
        low, quarter, median, upper, high = of_model[~missing].T
        axes.hlines(at, low, high, color=color, linewidth=1.1, zorder=2)
        axes.hlines(at, quarter, upper, color=color, linewidth=4.2, zorder=3)
        edge: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.7}
        axes.scatter(median, at, s=15, color="white", zorder=4, **edge)
    axes.axhline(len(missing) - 1.5, color="#888888", linewidth=0.8)
    _write_undefined(axes, missing)
