"""The one table of all experiments: a row for every method, task, seed and factors.

What is compared has a *method*; whatever else was varied (the network, the budget, where a search
started) is a *factor*, a column of its own. Numbers are fractions 0...1 and counts, never percent;
only what is written for people shows percent. A metric that is not defined is NaN.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from modeledit_jax.editors.editor import Cost
from modeledit_jax.imports import executed_at_first_use

with executed_at_first_use("pandas"):
    import pandas as pd

Factor: TypeAlias = str | int | float | bool
Curve: TypeAlias = Sequence[float | int] | np.ndarray

_METHOD_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_COLUMN_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_COSTS = tuple(field.name for field in dataclasses.fields(Cost))
_KEYS = ("method", "task", "seed")


@dataclasses.dataclass(frozen=True)
class Row:
    """One method on one task with one seed.

    Attributes:
      method: its name, lower case with hyphens.
      task: name of the task.
      seed: of the network.
      metrics: numbers of the outcome; fractions 0...1; NaN or infinite = not defined.
      cost: what it took.
      factors: what else tells this row from others of the method: text, numbers, truth values.
      curves: numbers on the way, of equal lengths: ``reward_evaluations`` and metrics, say.

    Raises:
      ValueError: a method that is not lower-case-with-hyphens; a metric, factor or curve that is
        not lower_snake_case, or one name for two columns; curves of different lengths.
    """

    method: str
    task: str
    seed: int
    metrics: Mapping[str, float]
    cost: Cost
    factors: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_method(self.method)
        _check_columns("metric", self.metrics, (*_KEYS, *_COSTS))
        _check_columns("factor", self.factors, (*_KEYS, *_COSTS, *self.metrics, *self.curves))
        _check_columns("curve", self.curves, _KEYS)
        curves = {name: tuple(np.asarray(curve).tolist()) for name, curve in self.curves.items()}
        lengths = {name: len(curve) for name, curve in curves.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"curves differ in length: {lengths}; give each a value per point")
        factors = {name: _factor(name, value) for name, value in self.factors.items()}
        metrics = {name: float(value) for name, value in self.metrics.items()}
        for name, values in (("metrics", metrics), ("factors", factors), ("curves", curves)):
            object.__setattr__(self, name, values)


def frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """The rows as a table for pandas.

    Returns:
      Columns ``method``, ``task``, ``seed``, factors, metrics, ``reward_evaluations``,
      ``gradient_steps``, ``seconds``; what a row does not have is NaN. Curves: `curve_frame`.
    """
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    records = [
        {**_keys(row), **row.factors, **row.metrics, **dataclasses.asdict(row.cost)} for row in rows
    ]
    return pd.DataFrame(records, columns=[*_KEYS, *factor_names(rows), *metrics, *_COSTS])


def curve_frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """The rows' curves in long format, a line for each point of each row.

    Returns:
      Columns ``method``, ``task``, ``seed``, factors and curves, of dtype object; what a row does
      not have, and numbers that are not finite, are None.
    """
    columns, lines = curve_lines(rows)
    return pd.DataFrame(lines, columns=columns, dtype=object)


def curve_lines(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Columns and lines of `curve_frame`, for those who need no pandas."""
    rows = [row for row in rows if row.curves]
    curves = list(dict.fromkeys(name for row in rows for name in row.curves))
    factors = factor_names(rows)
    lines = [
        [*_keys(row).values(), *(row.factors.get(name) for name in factors), *map(_finite, values)]
        for row in rows
        for values in zip(*(_curve(row, name) for name in curves), strict=True)
    ]
    return [*_KEYS, *factors, *curves], lines


def factor_names(rows: Iterable[Row]) -> list[str]:
    """Factors of any of the rows, in order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.factors))


def curve_matrix(rows: Sequence[Row], name: str) -> np.ndarray:
    """A curve of every row, ``[B, K]``.

    Raises:
      ValueError: a row without it, or curves of different lengths.
    """
    curves = [row.curves.get(name, ()) for row in rows]
    if lacking := [describe(row) for row in rows if name not in row.curves]:
        raise ValueError(f"{lacking[0]} has no curve {name!r}; leave it out")
    if len({len(curve) for curve in curves}) > 1:
        raise ValueError(f"curves {name!r} differ in length between rows; group them first")
    return np.array(curves)


def select(rows: Iterable[Row], **values: Any) -> list[Row]:
    """Rows with these values of ``method``, ``task``, ``seed`` or factors (None: without it)."""
    return [row for row in rows if all(row_value(row, n) == value for n, value in values.items())]


def group_by(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Rows by the values of some columns, in order of first appearance.

    Args:
      rows: any.
      *names: of ``method``, ``task``, ``seed`` and factors.

    Returns:
      Keys are the values of one column, or tuples of several; None where a row lacks a factor.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        values = tuple(row_value(row, name) for name in names)
        groups.setdefault(values[0] if len(names) == 1 else values, []).append(row)
    return groups


def by_variant(rows: Sequence[Row], strata: Sequence[str] = ()) -> list[list[Row]]:
    """Rows of each method with each set of factors, in order of first appearance.

    Args:
      rows: any.
      strata: factors that tell tasks apart rather than what is compared.
    """
    names = [name for name in factor_names(rows) if name not in strata]
    return list(group_by(rows, "method", *names).values())


def describe(row: Row) -> str:
    """Method and factors in words, for messages."""
    factors = ", ".join(f"{name} {value}" for name, value in row.factors.items())
    return f"method {row.method!r}" + (f" with {factors}" if factors else "")


def row_value(row: Row, name: str) -> Any:
    """Value of ``method``, ``task``, ``seed`` or a factor; None where the row lacks the factor."""
    return getattr(row, name) if name in _KEYS else row.factors.get(name)


def _check_method(name: str) -> None:
    if not _METHOD_NAME.fullmatch(name):
        raise ValueError(f"method name {name!r} must be lower case with hyphens, like 'ppo-shift'")


def _check_columns(kind: str, names: Iterable[str], taken: Iterable[str]) -> None:
    for name in names:
        if not _COLUMN_NAME.fullmatch(name):
            raise ValueError(
                f"{kind} name {name!r} must be lower case with underscores, like "
                "'forget_accuracy_test'"
            )
        if name in taken:
            raise ValueError(f"{kind} name {name!r} is that of another column: choose another")


def _factor(name: str, value: Any) -> Factor:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"factor {name!r} is {value!r}: give text, a number or a truth value")
    return value


def _keys(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _KEYS}


def _curve(row: Row, name: str) -> Sequence[Any] | np.ndarray:
    return row.curves.get(name, [None] * len(next(iter(row.curves.values()))))


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
