"""What the value of any option may be, read from the type that its dataclass declares.

A number declares its `Range`. Lists hold at least one value, unless they are marked `MAY_BE_EMPTY`,
and none twice. So an option is checked by being declared, in every command alike; what only several
options together get wrong is left to the ``check`` of each dataclass.
"""

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

MAY_BE_EMPTY = "may be empty"
"""Mark of a list of which an empty one says something."""


@dataclass(frozen=True)
class Range:
    """The least and the most that a number may be; ``unit`` is what the least one counts."""

    least: float
    most: float
    unit: str = ""

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError for a value outside, which is named with the bound that it passes."""
        unit = f" {self.unit}" if self.unit else ""
        if not value >= self.least:  # NaN is not
            raise ValueError(f"{name} must be at least {self.least:,}{unit}, got {value}")
        if value > self.most:
            raise ValueError(f"{name} must be at most {self.most:,}, got {value}")


Count = Annotated[int, Range(1, 100_000)]
"""How many of something there are that takes a training, or a while, each."""
Steps = Annotated[int, Range(1, 10_000_000)]
"""Steps of a training."""
Evaluations = Annotated[int, Range(1, 100_000_000, "reward evaluation")]
"""Of a search."""
Networks = Annotated[int, Range(1, 10_000)]
"""How many networks are trained."""
Penalty = Annotated[float, Range(0, 1_000_000)]
"""Weight in a reward of what counts against an edit."""
Seed = Annotated[int, Range(0, 4_000_000_000)]
"""Of the first network; JAX would silently take seeds from 2³² on for smaller ones."""


def option_name(field: str) -> str:
    """``--run-dir`` of ``run_dir``."""
    return f"--{field.replace('_', '-')}"


def check_options(options: Any) -> None:
    """Checks every option of a dataclass by its declared type.

    Raises:
      ValueError: a value of another type, out of its range, not finite, not among the choices, or
        in a list twice; or an empty list. The message names the option and what was given.
    """
    hints = get_type_hints(type(options), include_extras=True)
    for option in fields(options):
        _check(option_name(option.name), getattr(options, option.name), hints[option.name], ())


def _check(name: str, value: Any, hint: Any, marks: Sequence[Any]) -> None:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        _check(name, value, inner[0], inner[1:])
    elif origin in (Union, types.UnionType):
        if value is not None or type(None) not in inner:
            _check(name, value, next(kind for kind in inner if kind is not type(None)), marks)
    elif origin is tuple:
        _check_list(name, value, inner[0], marks)
    elif origin is Literal:
        if value not in inner:
            raise ValueError(f"{name} must be one of {', '.join(inner)}, got {value!r}")
    elif hint in (int, float):
        _check_number(name, value, hint, marks)
    elif hint in (bool, str) and not isinstance(value, hint):
        kind = "true or false" if hint is bool else "a text"
        raise ValueError(f"{name} must be {kind}, got {value!r}")


def _check_list(name: str, values: Any, hint: Any, marks: Sequence[Any]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ValueError(f"{name} must be a list, got {values!r}")
    if not values and MAY_BE_EMPTY not in marks:
        raise ValueError(f"{name} must name at least one, got none")
    for value in values:
        _check(name, value, hint, ())
    check_distinct(name, values)


def _check_number(name: str, value: Any, hint: type, marks: Sequence[Any]) -> None:
    kind, called = (Integral, "an integer") if hint is int else (Real, "a number")
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{name} must be {called}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    for mark in marks:
        if isinstance(mark, Range):
            mark.check(name, value)


def check_distinct(name: str, values: Sequence[Any]) -> None:
    """Raises ValueError if an option names a value twice."""
    if len(set(values)) < len(values):
        twice = next(value for value in values if list(values).count(value) > 1)
        raise ValueError(f"{name} names {twice} twice: name it once")
