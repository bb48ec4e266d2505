"""When a search first meets a target, and the target of unlearning."""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Num

from modeledit_jax.data.arrays import check_shapes

Values: TypeAlias = Float[np.ndarray, "..."] | float

FORGET_ACCURACY, RETAIN_DROP = 0.01, 0.01
"""A request is fulfilled at forget accuracy ≤ 1 % and retain accuracy ≥ original − 1 point."""

TARGET = "forget ≤ 1 % and retain ≥ original − 1 point"
"""The target in words."""


def forgotten(forget: Values, retain: Values, original: Values) -> Bool[np.ndarray, "..."]:
    """Whether a request is fulfilled: little of it left, little else lost.

    Args:
      forget: accuracy on what is to be forgotten.
      retain: accuracy on the rest; shapes broadcast.
      original: accuracy of the unedited network on the rest.
    """
    kept = np.asarray(retain) >= np.asarray(original) - RETAIN_DROP
    return np.asarray((np.asarray(forget) <= FORGET_ACCURACY) & kept)


def first_met(
    met: Bool[np.ndarray, "b k"], evaluations: Num[np.ndarray, " k"]
) -> Float[np.ndarray, " b"]:
    """Evaluations until a target is first met; NaN if never.

    Args:
      met: of ``B`` tasks at ``K`` points.
      evaluations: spent at each point.
    """
    check_shapes(met=(met, "b k"), evaluations=(evaluations, "k"))
    first = evaluations[met.argmax(axis=1)].astype(np.float64)
    return np.where(met.any(axis=1), first, np.nan)


def quantiles_of_needed(needed: Float[np.ndarray, " b"], levels: Iterable[float]) -> list[float]:
    """Quantiles of what `first_met` found, infinite where too few tasks met their target."""
    known = np.where(np.isfinite(needed), needed, np.inf)
    return [float(np.quantile(known, level, method="higher")) for level in levels]
