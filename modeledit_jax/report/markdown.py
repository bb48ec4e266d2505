"""Tables in Markdown, and how numbers and intervals are written in them."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from modeledit_jax.evaluation.statistics import Interval, mean_interval
from modeledit_jax.report.aggregates import aggregate_metric
from modeledit_jax.report.table import Factor, Row, by_variant, factor_names

MISSING = "–"
"""What stands for a value that is missing or not finite."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One metric of a report table.

    Attributes:
      metric: its name in the rows.
      worst: which extreme is the bad one; the column then shows the mean, the worst run and the
        IQM with its bootstrap interval. None: the mean with its t-interval alone.
      percent: show fractions as percent.
      digits: after the point.
    """

    metric: str
    worst: Literal["highest", "lowest"] | None = None
    percent: bool = True
    digits: int = 2


def table_lines(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1
) -> list[str]:
    """Lines of a table; all but the first ``texts`` columns hold numbers, set to the right."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return ["| " + " | ".join(cells) + " |" for cells in (header, rule, *rows)]


def number(value: float, digits: int = 2, *, percent: bool = False, signed: bool = False) -> str:
    """A number for people.

    Args:
      value: any number.
      digits: after the point.
      percent: show a fraction as percent (without the sign, which the header has).
      signed: write a plus too. Without it, what would round to zero reads ``<0.01``.
    """
    if not math.isfinite(value):
        return MISSING
    shown = (100.0 * value if percent else value) + 0.0  # no minus before a zero
    unit = 10.0**-digits
    if not signed and 0 < abs(shown) < unit / 2:
        return f"<{unit:.{digits}f}" if shown > 0 else f">−{unit:.{digits}f}"
    return f"{shown:{'+' if signed else ''},.{digits}f}".replace("-", "−")


def interval_cell(
    interval: Interval, digits: int = 2, *, percent: bool = False, signed: bool = False
) -> str:
    """``"point [low, high]"``, or the point alone where there are no bounds; see `number`."""
    point, low, high = (
        number(value, digits, percent=percent, signed=signed) for value in interval[:3]
    )
    return f"{point} [{low}, {high}]" if math.isfinite(interval.low) else point


def mean_cell(values: ArrayLike, digits: int = 2, *, percent: bool = False) -> str:
    """Mean of runs with its 95 % t-interval; missing if a value is not finite."""
    if not np.isfinite(values).all():
        return MISSING
    return interval_cell(mean_interval(values), digits, percent=percent)


def markdown_table(
    rows: Sequence[Row],
    columns: Sequence[Column],
    costs: bool = False,
    strata: Sequence[str] = (),
) -> str:
    """Markdown table of methods, a line for each with its factors; see `Column` for what it shows.

    Args:
      rows: as for `aggregate`; factors that vary among them are shown as columns.
      columns: metrics to show. Nonzero numbers that would round to zero read ``<0.01``.
      costs: add mean reward evaluations, gradient steps and seconds.
      strata: as for `aggregate`.

    Returns:
      Lines without a trailing newline. ``–`` stands for what is missing or not finite.

    Raises:
      ValueError: as for `aggregate`.
    """
    factors = varying_factors(rows, strata)
    header = ["method", *(name.replace("_", " ") for name in factors)]
    for column in columns:
        title = column.metric.replace("_", " ") + (" %" if column.percent else "")
        header += [f"{title}: mean", "worst", "IQM [95% interval]"] if column.worst else [title]
    if costs:
        header += ["reward evaluations", "gradient steps", "seconds"]
    lines = []
    for group in by_variant(rows, strata):
        cells = [group[0].method, *(factor_cell(group[0].factors.get(name)) for name in factors)]
        for column in columns:
            cells += _metric_cells(group, column, strata)
        lines.append(cells + (_cost_cells(group) if costs else []))
    return "\n".join(table_lines(header, lines, texts=1 + len(factors)))


def varying_factors(rows: Sequence[Row], strata: Sequence[str] = ()) -> list[str]:
    """Factors of which the rows have more than one value, or not all a value."""
    names = [name for name in factor_names(rows) if name not in strata]
    return [name for name in names if len({row.factors.get(name) for row in rows}) > 1]


def factor_cell(value: Factor | None) -> str:
    """A factor's value for people."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return MISSING if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _metric_cells(rows: Sequence[Row], column: Column, strata: Sequence[str]) -> list[str]:
    """What a column shows of one group."""
    values = [row.metrics[column.metric] for row in rows if column.metric in row.metrics]
    if not values or not np.isfinite(values).all():
        return [MISSING] * (3 if column.worst else 1)
    if column.worst is None:
        return [mean_cell(values, column.digits, percent=column.percent)]
    item = aggregate_metric(rows, column.metric, strata)
    extreme = max(values) if column.worst == "highest" else min(values)
    mean, worst = (
        number(value, column.digits, percent=column.percent)
        for value in (float(np.mean(values)), extreme)
    )
    interval = Interval(item.iqm, item.ci_low, item.ci_high)
    return [mean, worst, interval_cell(interval, column.digits, percent=column.percent)]


def _cost_cells(rows: Sequence[Row]) -> list[str]:
    """Mean costs of one group."""
    costs = np.array([dataclasses.astuple(row.cost) for row in rows], np.float64).mean(axis=0)
    seconds = f"{costs[2]:.3g}" if math.isfinite(costs[2]) else MISSING
    return [f"{costs[0]:,.0f}", f"{costs[1]:,.0f}", seconds]
