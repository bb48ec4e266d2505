"""Calibration of the probabilities behind a classifier's logits, overall and by group."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from modeledit_jax import struct
from modeledit_jax.evaluation.auc import check_scores, labeled_weights
from modeledit_jax.types import Field


@struct.dataclass
class CalibrationErrors:
    """Expected calibration errors, 0…1; NaN for a group without examples."""

    overall: Field  # [] float32
    group: Field  # [I] float32


def expected_calibration_error(
    scores: Float[Array, " n"],
    label: Int[Array, " n"],
    groups: Float[Array, "n i"],
    weights: Num[Array, " n"] | None = None,
    bins: int = 15,
) -> CalibrationErrors:
    """Mean distance of the probability of the positive class from its observed frequency.

    Metric card:
        *Direction*: lower is better, 0…1.
        *Reading*: ``Σ_b (n_b / n) |frequency - mean probability|`` over ``bins`` equal-width bins
        ``[b / bins, (b + 1) / bins)`` of ``sigmoid(score)``, the last one closed. Grows as a group
        gets smaller: compare a term with itself before and after an edit, not terms of different
        size. AUCs are blind to it.
        *Source*: Guo et al. 2017, "On Calibration of Modern Neural Networks", with the probability
        of the positive class instead of that of the predicted one.

    Args:
      scores: ``[N]`` logits; a non-finite one that counts makes every result NaN.
      label: ``[N]``, 0 or 1; other values are left out.
      groups: ``[N, I]``, 1 where the example mentions the term, else 0; columns may overlap.
      weights: ``[N]``, non-negative; None counts every example once.
      bins: their number, at least 1.

    Raises:
      ValueError: there are no bins, or shapes do not fit.
    """
    if bins < 1:
        raise ValueError(f"bins is {bins}; use at least one, customarily 15")
    check_scores(scores, label, groups, weights)
    positive, negative = labeled_weights(label, weights)
    total = positive + negative
    finite = jnp.all(jnp.isfinite(scores) | (total == 0))
    probability = jax.nn.sigmoid(jnp.where(total > 0, scores.astype(jnp.float32), 0.0))
    index = jnp.minimum((probability * bins).astype(jnp.int32), bins - 1)
    members = jnp.pad(groups, ((0, 0), (1, 0)), constant_values=1.0)
    excess = members * (positive - total * probability)[:, None]
    # Full precision: the accelerators' default would round the probabilities.
    by_bin = jnp.matmul(
        jax.nn.one_hot(index, bins, axis=0), excess, precision=lax.Precision.HIGHEST
    )
    size = jnp.sum(members * total[:, None], axis=0)
    defined = (size > 0) & finite
    error = jnp.sum(jnp.abs(by_bin), axis=0) / jnp.where(defined, size, 1.0)
    error = jnp.where(defined, error, jnp.nan)
    return CalibrationErrors(overall=error[0], group=error[1:])
