"""Tables of the benchmark: header and lines of cells, which become Markdown or LaTeX."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from experiments.unlearning_benchmark.statistics import Statistics
from modeledit_jax.report.markdown import MISSING, interval_cell, number
from modeledit_jax.report.table import Row, group_by

Cells: TypeAlias = tuple[list[str], list[list[str]]]
BOTH = ("layer_1", "layer_2")


def by_cell(found: Sequence[Statistics]) -> dict[tuple[str, str], Statistics]:
    """Statistics by method and metric."""
    return {(one.method, one.metric): one for one in found}


def benchmark_table(rows: Sequence[Row], found: Sequence[Statistics]) -> Cells:
    """The table of the benchmark, a line for every method; `retrain` is what others are read by."""
    statistics = by_cell(found)
    layers = [layer for layer in BOTH if any(one.metric.endswith(layer) for one in found)]
    header = [
        "method",
        "forget %: mean",
        "worst class",
        "retain drop, points",
        "Tug-of-War",
        "worst class",
        "total variation on forget",
        *(f"1-shot prototype gap, {layer.replace('_', ' ')}" for layer in layers),
        "relearn index",
        "with a fresh last layer",
        "membership gap",
        "KLOM",
        "U-LiRA",
        "optimism: mean",
        "largest",
        "evaluations",
        "gradient steps",
        "seconds",
    ]
    lines = []
    for name, group in group_by(rows, "method").items():
        lines.append(
            [
                name,
                _mean(group, "forget_accuracy_test", percent=True),
                _worst(statistics.get((name, "forget_accuracy_test")), 2, percent=True),
                _mean(group, "retain_drop_test", percent=True),
                _robust(statistics.get((name, "tow")), 4),
                _worst(statistics.get((name, "tow")), 3),
                _robust(statistics.get((name, "total_variation_forget_test")), 2),
                *(
                    _robust(statistics.get((name, f"prototype_gap_1_{layer}")), 2)
                    for layer in layers
                ),
                _robust(statistics.get((name, "relearn_index")), 2),
                _robust(statistics.get((name, "relearn_index_fresh")), 2),
                _robust(statistics.get((name, "membership_gap")), 3),
                _mean(group, "klom_forget_test", 1),
                _mean(group, "likelihood_ratio_auc_forget_test", 2),
                _mean(group, "optimism", percent=True),
                number(max(_values(group, "optimism")), percent=True),
                *_costs(group),
            ]
        )
    return header, lines


def floor_table(found: Sequence[Statistics]) -> Cells:
    """Deviations from Retrain, a line for every method, marked where they are within the floor."""
    statistics, metrics = by_cell(found), list(dict.fromkeys(one.metric for one in found))
    margins = {one.metric: one.margin for one in found}
    header = ["method", *(metric.replace("_", " ") for metric in metrics)]
    lines = [["margin", *(number(margins[metric], 3) for metric in metrics)]]
    for name in dict.fromkeys(one.method for one in found):
        lines.append([name, *(_deviation(statistics.get((name, one))) for one in metrics)])
    return header, lines


def second_retrain_table(found: Sequence[Statistics], metric: str) -> Cells:
    """How one metric compares with that of a second retrained network."""
    header = [
        "method",
        "IQM [stratified 95 %]",
        "IQM [hierarchical 95 %]",
        "farther [95 %]",
        "p",
        "as close with probability",
        "within the floor: p",
    ]
    lines = [
        [
            one.method,
            interval_cell(one.stratified, 4),
            interval_cell(one.hierarchical, 4),
            interval_cell(one.difference, 4, signed=True),
            number(one.wilcoxon, 3),
            interval_cell(one.as_close, 2),
            number(one.equivalence, 3),
        ]
        for one in found
        if one.metric == metric
    ]
    return header, lines


def _deviation(one: Statistics | None) -> str:
    if one is None:
        return MISSING
    return number(one.deviation, 3, signed=True) + (" ✓" if one.equivalent else "")


def _values(group: Sequence[Row], metric: str) -> list[float]:
    return [row.metrics[metric] for row in group if metric in row.metrics]


def _mean(group: Sequence[Row], metric: str, digits: int = 2, *, percent: bool = False) -> str:
    values = _values(group, metric)
    return number(float(np.mean(values)) if values else math.nan, digits, percent=percent)


def _worst(one: Statistics | None, digits: int, *, percent: bool = False) -> str:
    if one is None:
        return MISSING
    return f"{number(one.worst, digits, percent=percent)} ({one.worst_task.split('-')[-1]})"


def _robust(one: Statistics | None, digits: int) -> str:
    return MISSING if one is None else interval_cell(one.hierarchical, digits)


def _costs(group: Sequence[Row]) -> list[str]:
    costs: Mapping[str, float] = {
        name: float(np.mean([getattr(row.cost, name) for row in group]))
        for name in ("reward_evaluations", "gradient_steps", "seconds")
    }
    return [
        number(costs["reward_evaluations"], 0),
        number(costs["gradient_steps"], 0),
        number(costs["seconds"], 2),
    ]
