"""Statistics of rows: interquartile means with intervals, and paired differences."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from modeledit_jax.evaluation.statistics import Interval, stratified_bootstrap
from modeledit_jax.report.table import Row, by_variant, describe, row_value


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """Interquartile mean of one metric of one method over all seeds and tasks."""

    method: str
    metric: str
    iqm: float  # NaN if any of the n values is not finite
    ci_low: float  # 95% stratified bootstrap; NaN with a single seed
    ci_high: float
    n: int  # runs, seeds × tasks
    factors: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def aggregate(rows: Sequence[Row], strata: Sequence[str] = ()) -> list[Aggregate]:
    """IQM with 95% stratified bootstrap interval of every metric, by method and factors.

    Groups and metrics keep the order of their first appearance. A metric is aggregated over the
    rows that have it; if one of its values is not finite the aggregate is NaN, because leaving
    failed runs out would flatter the method.

    Args:
      rows: at most one for each method, task, seed and factors.
      strata: factors that tell tasks apart rather than what is compared.

    Raises:
      ValueError: if a group has two rows for one (task, seed), or a metric's rows do not
        form a complete grid of tasks and seeds.
    """
    return [
        aggregate_metric(group, metric, strata)
        for group in by_variant(rows, strata)
        for metric in dict.fromkeys(name for row in group for name in row.metrics)
    ]


def score_matrix(
    rows: Sequence[Row], metric: str, strata: Sequence[str] = ()
) -> Float[np.ndarray, "s b"]:
    """One metric of one group of rows as seeds by tasks, for `evaluation.statistics`.

    Seeds rise; tasks are in order of first appearance. Rows without the metric are left out.

    Raises:
      ValueError: two rows for one (task, seed), or one is missing.
    """
    return _matrix(rows, metric, _cells(rows, metric, strata))


def paired(
    one: Sequence[Row], other: Sequence[Row], metric: str, strata: Sequence[str] = ()
) -> Float[np.ndarray, "s b"]:
    """Differences ``one − other`` of a metric between two groups of rows, pair by pair.

    Args:
      one, other: rows of two methods (`select`), which are paired by task and seed.
      metric: to compare.
      strata: factors that tell tasks apart.

    Returns:
      Seeds by tasks, as `score_matrix`.

    Raises:
      ValueError: a row without its pair; as `score_matrix`.
    """
    first, second = _cells(one, metric, strata), _cells(other, metric, strata)
    if single := sorted(map(str, first.keys() ^ second.keys())):
        raise ValueError(
            f"{metric!r} cannot be paired: {single[0]} has one of two rows; run both methods on "
            "the same tasks and seeds"
        )
    return _matrix(one, metric, {cell: value - second[cell] for cell, value in first.items()})


def _cells(
    rows: Sequence[Row], metric: str, strata: Sequence[str]
) -> dict[tuple[int, tuple[Any, ...]], float]:
    """A metric by seed and task, where a task is its name and the strata."""
    values = [
        ((row.seed, (row.task, *(row_value(row, name) for name in strata))), row.metrics[metric])
        for row in rows
        if metric in row.metrics
    ]
    cells = dict(values)
    if len(cells) < len(values):
        raise ValueError(f"{describe(rows[0])} has two rows for one (task, seed); keep one of them")
    return cells


def _matrix(
    rows: Sequence[Row], metric: str, cells: Mapping[tuple[int, tuple[Any, ...]], float]
) -> np.ndarray:
    seeds = sorted({seed for seed, _ in cells})
    tasks = list(dict.fromkeys(task for _, task in cells))
    missing = [(*task, seed) for seed in seeds for task in tasks if (seed, task) not in cells]
    if missing:
        raise ValueError(
            f"{metric!r} of {describe(rows[0])} lacks (task, seed) {missing[:3]}: run the missing "
            "ones or summarize the tasks apart"
        )
    return np.array([[cells[seed, task] for task in tasks] for seed in seeds])


def aggregate_metric(rows: Sequence[Row], metric: str, strata: Sequence[str]) -> Aggregate:
    """Aggregate of one metric over a group's rows that have it (at least one)."""
    scores = score_matrix(rows, metric, strata)
    interval = Interval(math.nan, math.nan, math.nan)
    if np.isfinite(scores).all():
        interval = stratified_bootstrap(scores)
    factors = {name: value for name, value in rows[0].factors.items() if name not in strata}
    return Aggregate(rows[0].method, metric, *interval, scores.size, factors)
