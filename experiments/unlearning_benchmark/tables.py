"""Tables of the benchmark: header and lines of cells, which become Markdown or LaTeX."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from experiments.unlearning_benchmark.statistics import Statistics
from modeledit_jax.report.markdown import MISSING, interval_cell, number
from modeledit_jax.report.table import Row, group_by

Cells: TypeAlias = tuple[list[str], list[list[str]]]
Cell: TypeAlias = Callable[[Sequence[Row], Mapping[str, Statistics]], str]
"""What a column says of the rows of a method and of its statistics, by metric."""


def by_method(found: Sequence[Statistics]) -> dict[str, dict[str, Statistics]]:
    """Statistics by method and metric."""
    grouped: dict[str, dict[str, Statistics]] = {}
    for one in found:
        grouped.setdefault(one.method, {})[one.metric] = one
    return grouped


def benchmark_table(rows: Sequence[Row], found: Sequence[Statistics]) -> Cells:
    """What a paper would print, a line for every method."""
    return _table(
        rows,
        found,
        {
            "forget %: mean": _mean("forget_accuracy_test", percent=True),
            "worst class": _worst("forget_accuracy_test", 2, percent=True),
            "retain drop, points": _mean("retain_drop_test", percent=True),
            "Tug-of-War [95 %]": _robust("tow", 4),
            "worst class ": _worst("tow", 3),
            "prototype gap [95 %]": _robust("prototype_gap_1_layer_1", 2),
            "relearn index, fresh layer [95 %]": _robust("relearn_index_fresh", 2),
            "KLOM": _mean("klom_forget_test", 1),
            "optimism, points": _mean("optimism", percent=True),
            "as retrained": _within,
        },
    )


def detail_table(rows: Sequence[Row], found: Sequence[Statistics]) -> Cells:
    """What else is measured, and what it costs, a line for every method."""
    return _table(
        rows,
        found,
        {
            "total variation, forget": _robust("total_variation_forget_test", 2),
            "total variation, retain": _robust("total_variation_retain_test", 3),
            "prototype gap, layer 2": _robust("prototype_gap_1_layer_2", 2),
            "relearn index": _robust("relearn_index", 2),
            "membership gap": _robust("membership_gap", 3),
            "U-LiRA": _mean("likelihood_ratio_auc_forget_test", 2),
            "optimism, largest": _largest("optimism"),
            "reward evaluations": _cost("reward_evaluations", 0),
            "gradient steps": _cost("gradient_steps", 0),
            "seconds": _cost("seconds", 2),
        },
    )


def _table(rows: Sequence[Row], found: Sequence[Statistics], columns: Mapping[str, Cell]) -> Cells:
    statistics = by_method(found)
    lines = [
        [name, *(cell(group, statistics.get(name, {})) for cell in columns.values())]
        for name, group in group_by(rows, "method").items()
    ]
    return ["method", *(title.strip() for title in columns)], lines


def floor_table(found: Sequence[Statistics]) -> Cells:
    """Deviations from Retrain, a line for every method, marked where they are within the floor."""
    statistics, metrics = by_method(found), list(dict.fromkeys(one.metric for one in found))
    margins = {one.metric: one.margin for one in found}
    header = ["method", *(metric.replace("_", " ") for metric in metrics)]
    lines = [["margin", *(number(margins[metric], 3) for metric in metrics)]]
    for name, own in statistics.items():
        lines.append([name, *(_deviation(own.get(metric)) for metric in metrics)])
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


WITHIN = {
    "tow": "ToW",
    "total_variation_forget_test": "TV",
    "prototype_gap_1_layer_1": "layer 1",
    "prototype_gap_1_layer_2": "layer 2",
}
"""Short names of the metrics in which a method may be as retrained networks are; relearn indices of
retrained networks differ too much to say so."""


def _within(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
    names = [short for metric, short in WITHIN.items() if metric in own and own[metric].equivalent]
    return ", ".join(names) or MISSING


def _values(group: Sequence[Row], metric: str) -> list[float]:
    return [row.metrics[metric] for row in group if metric in row.metrics]


def _mean(metric: str, digits: int = 2, *, percent: bool = False) -> Cell:
    def cell(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
        values = _values(group, metric)
        return number(float(np.mean(values)) if values else math.nan, digits, percent=percent)

    return cell


def _largest(metric: str) -> Cell:
    def cell(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
        return number(max(_values(group, metric), default=math.nan), percent=True)

    return cell


def _worst(metric: str, digits: int, *, percent: bool = False) -> Cell:
    def cell(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
        if metric not in own:
            return MISSING
        one = own[metric]
        return f"{number(one.worst, digits, percent=percent)} ({one.worst_task.split('-')[-1]})"

    return cell


def _robust(metric: str, digits: int) -> Cell:
    def cell(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
        return interval_cell(own[metric].hierarchical, digits) if metric in own else MISSING

    return cell


def _cost(name: str, digits: int) -> Cell:
    def cell(group: Sequence[Row], own: Mapping[str, Statistics]) -> str:
        return number(float(np.mean([getattr(row.cost, name) for row in group])), digits)

    return cell
