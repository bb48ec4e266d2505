"""Everything a report says about the fairness of one model, by stable names.

Fractions are 0…1. What each number means stands in `auc`, `fairness` and `calibration`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from modeledit_jax.evaluation.auc import (
    EqualityGaps,
    GroupAUCs,
    average_equality_gaps,
    group_aucs,
    labeled_weights,
)
from modeledit_jax.evaluation.calibration import CalibrationErrors, expected_calibration_error
from modeledit_jax.evaluation.fairness import (
    ErrorRates,
    counterfactual_dispersion,
    equality_differences,
    error_rates,
    kaggle_score,
    power_mean,
    worst_group_accuracy,
)


def fairness_metrics(
    scores: ArrayLike,
    label: ArrayLike,
    groups: ArrayLike,
    threshold: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
    bins: int = 15,
) -> dict[str, float]:
    """Returns the metrics of one model on one set.

    Args:
      scores: ``[N]`` logits.
      label: ``[N]``, 0 or 1; other values mark examples without a label, which are left out.
      groups: ``[N, I]``, 1 where the comment mentions the term, else 0.
      threshold: in the space of the scores, e.g. `fairness.equal_error_threshold` of the same
        model on *other* comments; a score at or above it is called positive.
      weights: ``[N]``, non-negative; None counts every example once.
      blocks: ``[K, V]`` counterfactual blocks; None or an empty array leaves out
        ``counterfactual_dispersion``.
      bins: of the calibration error.

    Returns:
      ``auc``, ``accuracy``, ``fpr``, ``fnr``, ``ece``; FPED and FNED as means over terms and of the
      worst term; the power mean (``_m5``), minimum and number of defined terms of subgroup, BPSN
      and BNSP AUC; ``kaggle_score``; mean absolute equality gaps; ``worst_group_accuracy``,
      ``ece_worst_group``. NaN where undefined.
    """
    arguments = _arrays(scores, label, groups, threshold, weights)
    values = _measured(*arguments, bins=bins, by_term=False)
    if blocks is not None and np.size(blocks):
        values["counterfactual_dispersion"] = _dispersion(arguments[0], jnp.asarray(blocks))
    return {name: float(value) for name, value in jax.device_get(values).items()}


def per_term(
    scores: ArrayLike,
    label: ArrayLike,
    groups: ArrayLike,
    threshold: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    bins: int = 15,
) -> dict[str, np.ndarray]:
    """Returns the metrics of every term, ``{name: [I]}``; arguments as in `fairness_metrics`.

    ``positives`` and ``negatives`` are the (weighted) numbers of labeled comments with the term;
    gaps keep their sign.
    """
    arguments = _arrays(scores, label, groups, threshold, weights)
    return jax.device_get(_measured(*arguments, bins=bins, by_term=True))


_dispersion = jax.jit(counterfactual_dispersion)


@partial(jax.jit, static_argnames=("bins", "by_term"))
def _measured(
    scores: Float[Array, " n"],
    label: Int[Array, " n"],
    groups: Float[Array, "n i"],
    threshold: Float[Array, ""],
    weights: Float[Array, " n"],
    *,
    bins: int,
    by_term: bool,
) -> dict[str, Array]:
    """The metrics of the set or those of every term; what the result does not need is not run."""
    aucs = group_aucs(scores, label, groups, weights)
    rates = error_rates(scores, label, groups, threshold, weights)
    gaps = average_equality_gaps(scores, label, groups, weights)
    calibration = expected_calibration_error(scores, label, groups, weights, bins)
    if not by_term:
        return _overall(aucs, rates, gaps, calibration)
    positive, negative = labeled_weights(label, weights)
    return {
        "positives": jnp.sum(positive[:, None] * groups, axis=0),
        "negatives": jnp.sum(negative[:, None] * groups, axis=0),
        "fpr": rates.group_fpr,
        "fnr": rates.group_fnr,
        "accuracy": rates.group_accuracy,
        "subgroup_auc": aucs.subgroup,
        "bpsn_auc": aucs.bpsn,
        "bnsp_auc": aucs.bnsp,
        "positive_aeg": gaps.positive,
        "negative_aeg": gaps.negative,
        "ece": calibration.group,
    }


def _overall(
    aucs: GroupAUCs, rates: ErrorRates, gaps: EqualityGaps, calibration: CalibrationErrors
) -> dict[str, Array]:
    differences = equality_differences(rates)
    values = {
        "auc": aucs.overall,
        "accuracy": rates.accuracy,
        "fpr": rates.fpr,
        "fnr": rates.fnr,
        "fped": differences.fped,
        "fned": differences.fned,
        "fped_worst": differences.fped_worst,
        "fned_worst": differences.fned_worst,
        "fped_terms": differences.fped_terms,
        "fned_terms": differences.fned_terms,
        "kaggle_score": kaggle_score(aucs),
        "positive_aeg": jnp.nanmean(jnp.abs(gaps.positive)),
        "negative_aeg": jnp.nanmean(jnp.abs(gaps.negative)),
        "worst_group_accuracy": worst_group_accuracy(rates),
        "ece": calibration.overall,
        "ece_worst_group": jnp.nanmax(calibration.group),
    }
    for name, cells in (("subgroup", aucs.subgroup), ("bpsn", aucs.bpsn), ("bnsp", aucs.bnsp)):
        values[f"{name}_m5"] = power_mean(cells)
        values[f"{name}_min"] = jnp.nanmin(cells)
        values[f"{name}_terms"] = jnp.sum(~jnp.isnan(cells))
    return values


def check_membership(label: ArrayLike, groups: ArrayLike, weights: ArrayLike | None) -> None:
    """Raises ValueError unless labels are integers, groups 0 or 1, and weights not negative."""
    label, groups = np.asarray(label), np.asarray(groups)
    if label.dtype.kind not in "iub":
        raise ValueError(
            f"label has dtype {label.dtype}: pass integers, e.g. (toxicity >= 0.5).astype(int)"
        )
    if groups.dtype.kind not in "iubf" or not ((groups == 0) | (groups == 1)).all():
        raise ValueError(
            "groups must be 1 where a comment mentions a term, else 0: e.g. (shares >= 0.5)"
        )
    if weights is not None:
        numbers = np.asarray(weights)
        if numbers.dtype.kind not in "iubf" or not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise ValueError("weights must be finite and not negative: correct or leave them out")


def _arrays(
    scores: ArrayLike,
    label: ArrayLike,
    groups: ArrayLike,
    threshold: ArrayLike,
    weights: ArrayLike | None,
) -> tuple[Array, Array, Array, Array, Array]:
    """Checks shapes and converts; messages name the cure.

    Raises:
      ValueError: shapes do not fit, or there is no term.
    """
    label, groups = np.asarray(label), np.asarray(groups)
    check_membership(label, groups, weights)
    scores, label, groups = jnp.asarray(scores), jnp.asarray(label), jnp.asarray(groups)
    number = scores.shape[0] if scores.ndim == 1 else None
    if number is None:
        raise ValueError(f"scores has shape {scores.shape}; pass [N] logits, e.g. outputs[:, 0]")
    if groups.ndim != 2 or len(groups) != number or label.shape != (number,):
        raise ValueError(
            f"{number} scores need label [{number}] and groups [{number}, I], not {label.shape} "
            f"and {groups.shape}; pass the parts of one `Comments`"
        )
    if groups.shape[1] == 0:
        raise ValueError("groups has no columns; fairness needs at least one identity term")
    weights = (
        jnp.ones(number, jnp.float32) if weights is None else jnp.asarray(weights, jnp.float32)
    )
    if weights.shape != (number,):
        raise ValueError(f"weights has shape {weights.shape}; pass one for each of {number} scores")
    return scores, label, groups, jnp.asarray(threshold, jnp.float32), weights
