"""Learning curves: what runs have reached after so many evaluations."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Num
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from modeledit_jax.evaluation.statistics import bootstrap_band
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.style import FONT, dress, method_style, save


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
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Interquartile mean of B runs against reward evaluations, with its 95% bootstrap band.

    Args:
      curves: ``{method: [B, K]}`` fractions (or other units with ``percent=False``).
      evaluations: ``{method: [K]}`` reward evaluations spent at each point, positive if
        ``log_x``.
      ylabel: quantity on the y axis, with its unit if it is no percentage.
      path: PNG to write.
      title: of the figure.
      log_x: logarithmic axis of evaluations.
      percent: show fractions as percent.
      target: height of a dotted line, e.g. the score of a second retraining.
      xlabel: of what is counted instead of reward evaluations.
      styles: see `method_style`.

    Returns:
      The figure: one line and one band per method, in the order given.

    Raises:
      ValueError: if a method lacks its evaluations or a curve is not finite.
    """
    missing = sorted(curves.keys() - evaluations.keys())
    if missing:
        raise ValueError(f"evaluations of {missing} are absent; pass one [K] array per method")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if target is not None:
        axes.axhline(target, color="black", linestyle=":", linewidth=1.2, label="target")
    for method, runs in curves.items():
        style, x = method_style(method, styles), np.asarray(evaluations[method])
        center, low, high = bootstrap_band(runs)
        axes.fill_between(x, low, high, color=style.color, alpha=0.18, linewidth=0)
        axes.plot(x, center, color=style.color, linestyle=style.line, linewidth=2, label=method)
    if log_x:
        axes.set_xscale("log")
        spent = np.concatenate([np.asarray(evaluations[method]) for method in curves])
        few_decades = spent.max() < 1_000 * spent.min()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few_decades else (1,)))
    dress(axes, xlabel, ylabel, f"{title}\nIQM of runs, 95% bootstrap band")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.legend(loc="outside right center", fontsize=FONT - 1, frameon=False)
    return save(figure, path)
