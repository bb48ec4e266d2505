"""What the benchmark says of a method: how far it is from retraining, and whether by chance.

Every metric is read as its *deviation* from the retrained network of the same class and seed, of
which 0 is the goal whatever the metric; of indices, which are ratios, it is the logarithm to the
base 2. The deviations of further retrained networks are the floor of chance.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from modeledit_jax.evaluation.statistics import (
    Interval,
    hierarchical_bootstrap,
    holm,
    noise_margin,
    paired_difference,
    probability_of_improvement,
    stratified_bootstrap,
    tost,
)
from modeledit_jax.report.aggregates import paired, score_matrix
from modeledit_jax.report.table import Row, group_by

Scores = Float[np.ndarray, "s b"]
SMALLEST_MARGIN = 1e-3
"""Of a floor: retrained networks agree to the last example on a class that none has seen."""
RATIOS = ("relearn_index",)
"""How the names of metrics begin that are ratios to Retrain."""
SMALLEST_RATIO = 1 / 64
"""What stands for a smaller one, 0 among them."""
CONFIDENCE = 0.95

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Statistics:
    """One metric of one method over all classes (tasks) and networks (seeds).

    Attributes:
      method, metric: names.
      mean: over all cells.
      worst: mean over networks of the class that is farthest from Retrain.
      worst_task: that class.
      stratified: interquartile mean; networks are drawn anew within each class.
      hierarchical: interquartile mean; networks are drawn anew, then classes within each.
      deviation: mean difference from Retrain, of ratios in doublings.
      margin: of the floor, `noise_margin` of the further retrained networks.
      equivalence: p of the two one-sided tests that the mean deviation lies within the margin,
        corrected by Holm over methods; NaN for a single cell.
      difference: mean of how much farther from Retrain than a second one the method is, with the
        hierarchical interval.
      wilcoxon: p of the signed-rank test of these differences, corrected by Holm over methods.
      as_close: probability that the method comes closer to Retrain than a second one does.
    """

    method: str
    metric: str
    mean: float
    worst: float
    worst_task: str
    stratified: Interval
    hierarchical: Interval
    deviation: float
    margin: float
    equivalence: float
    difference: Interval
    wilcoxon: float
    as_close: Interval

    @property
    def equivalent(self) -> bool:
        """Whether it is within the floor of chance, at the level of 5 %."""
        return self.equivalence <= 1 - CONFIDENCE


def all_statistics(
    rows: Sequence[Row], metrics: Iterable[str], replicates: Sequence[str]
) -> list[Statistics]:
    """The statistics of every method and metric.

    Args:
      rows: of all methods, ``retrain`` and its replicates among them.
      metrics: those that all cells of a method have and that are finite are taken.
      replicates: names of the further retrained networks, at least one.
    """
    by_method = group_by(rows, "method")
    found = []
    for metric in metrics:
        own = [
            _statistics(name, metric, by_method, replicates)
            for name, group in by_method.items()
            if name != "retrain" and _complete(group, metric)
        ]
        found += _corrected(own)
    return found


def deviations(by_method: Mapping[str, Sequence[Row]], name: str, metric: str) -> Scores:
    """Differences of a metric from Retrain's, seeds by tasks; of ratios, in doublings."""
    own, retrain = (_doublings(by_method[one], metric) for one in (name, "retrain"))
    return paired(own, retrain, metric)


def _doublings(rows: Sequence[Row], metric: str) -> Sequence[Row]:
    """The rows with a ratio as its logarithm to the base 2; with any other metric as they are."""
    if not metric.startswith(RATIOS):
        return rows
    return [
        replace(row, metrics={metric: math.log2(max(row.metrics[metric], SMALLEST_RATIO))})
        for row in rows
    ]


def _complete(group: Sequence[Row], metric: str) -> bool:
    return all(math.isfinite(row.metrics.get(metric, math.nan)) for row in group)


def _statistics(
    name: str, metric: str, by_method: Mapping[str, Sequence[Row]], replicates: Sequence[str]
) -> Statistics:
    scores = score_matrix(by_method[name], metric)
    away = deviations(by_method, name, metric)
    chance = [deviations(by_method, other, metric) for other in replicates]
    margin = noise_margin(np.stack(chance), CONFIDENCE, SMALLEST_MARGIN)
    tasks = list(dict.fromkeys(row.task for row in by_method[name]))
    worst = int(np.abs(away).mean(axis=0).argmax())
    closeness = -np.abs(away), -np.abs(chance[0])
    against = paired_difference(*(-one for one in closeness))
    return Statistics(
        name,
        metric,
        float(scores.mean()),
        float(scores[:, worst].mean()),
        tasks[worst],
        stratified_bootstrap(scores),
        hierarchical_bootstrap(scores),
        float(away.mean()),
        margin,
        tost(away, margin) if away.size > 1 else math.nan,
        Interval(*against[:3]),
        against.p_value,
        probability_of_improvement(*closeness),
    )


def _corrected(found: Sequence[Statistics]) -> list[Statistics]:
    """Their p-values corrected by Holm; the first replicate is no comparison of its own."""
    own = [one for one in found if math.isfinite(one.equivalence)]
    if not own:
        return list(found)
    equivalence, wilcoxon = (
        holm([getattr(one, name) for one in own]) for name in ("equivalence", "wilcoxon")
    )
    return [
        replace(one, equivalence=float(p), wilcoxon=float(q))
        for one, p, q in zip(own, equivalence, wilcoxon, strict=True)
    ]
