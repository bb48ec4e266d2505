"""Fairness of a binary classifier at a threshold and beyond: error rates, equality differences,
generalised means of AUCs, counterfactual dispersion.

A score at or above the threshold is called positive. Labels other than 0 and 1 mark examples
without a label, which are left out like examples of weight 0. What is undefined, e.g. the false
positive rate of a term without negatives, is NaN and is left out of summaries, which say how many
terms they cover. A non-finite score or threshold makes every result NaN: comparing with it would
give a plausible rate. Arrays of examples whose shapes do not fit are refused (ValueError).
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from modeledit_jax import struct
from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.evaluation.auc import GroupAUCs, check_scores, labeled_weights
from modeledit_jax.evaluation.ranking import rank, sums_before
from modeledit_jax.types import Field


@struct.dataclass
class ErrorRates:
    """Rates of one model at one threshold, fractions 0…1; NaN where no example is at risk."""

    fpr: Field  # [] float32, share of negatives called positive
    fnr: Field  # [] float32, share of positives called negative
    accuracy: Field  # [] float32
    group_fpr: Field  # [I] float32
    group_fnr: Field  # [I] float32
    group_accuracy: Field  # [I] float32


@struct.dataclass
class EqualityDifferences:
    """How far the terms' error rates lie from the overall ones; 0 is equal."""

    fped: Field  # [] float32, mean over terms of |FPR - FPR_t|
    fned: Field  # [] float32, mean over terms of |FNR - FNR_t|
    fped_worst: Field  # [] float32, the largest term
    fned_worst: Field  # [] float32
    fped_terms: Field  # [] int32, terms that have negatives, over which the mean is taken
    fned_terms: Field  # [] int32, terms that have positives


@jax.jit
def equal_error_threshold(
    scores: Float[Array, " n"], label: Int[Array, " n"], weights: Num[Array, " n"] | None = None
) -> Float[Array, ""]:
    """The score at which false positive and false negative *rate* are closest.

    Every distinct score is a candidate; of two equally good ones the higher is taken (candidates
    whose gaps differ by float32 rounding count as different). Dixon et al. 2018 look for equal
    *counts* on a grid of 101 probabilities, which depends on the class balance.

    Args:
      scores: ``[N]`` logits.
      label: ``[N]``, 0 or 1.
      weights: ``[N]``, non-negative; None counts every example once.

    Returns:
      One of the scores, to be used as ``score >= threshold``; NaN if a class is absent.
    """
    check_scores(scores, label, None, weights)
    positive, negative = labeled_weights(label, weights)
    counted = positive + negative > 0
    ranking = rank(scores, counted)
    sides = jnp.stack([positive, negative, counted.astype(jnp.float32)], axis=1)
    below = sums_before(ranking.in_order(sides))
    totals = below[-1]
    missed, spared = below[ranking.first, 0], below[ranking.first, 1]
    gap = jnp.abs((totals[1] - spared) / totals[1] - missed / totals[0])
    # A place is a candidate if an example that counts has its score.
    counts = below[ranking.past, 2] > below[ranking.first, 2]
    gap = jnp.where(counts, gap, jnp.inf)
    place = gap.shape[0] - 1 - jnp.argmin(gap[::-1])
    in_order = ranking.in_order(jnp.where(counted, scores.astype(jnp.float32), 0.0)[:, None])
    defined = (totals[0] > 0) & (totals[1] > 0) & ranking.finite
    return jnp.where(defined, in_order.reshape(-1)[place], jnp.nan)


def error_rates(
    scores: Float[Array, " n"],
    label: Int[Array, " n"],
    groups: Float[Array, "n i"],
    threshold: Float[Array, ""] | float,
    weights: Num[Array, " n"] | None = None,
) -> ErrorRates:
    """False positive rate, false negative rate and accuracy, overall and of every term.

    Args:
      scores: ``[N]`` logits.
      label: ``[N]``, 0 or 1.
      groups: ``[N, I]``, 1 where the example mentions the term, else 0; columns may overlap.
      threshold: in the space of the scores.
      weights: ``[N]``, non-negative; None counts every example once.
    """
    check_scores(scores, label, groups, weights)
    if jnp.ndim(threshold):
        raise ValueError(f"threshold has shape {jnp.shape(threshold)}: pass one number")
    positive, negative = labeled_weights(label, weights)
    counted = positive + negative > 0
    called = scores >= threshold
    members = jnp.pad(groups, ((0, 0), (1, 0)), constant_values=1.0)
    cells = jnp.stack(
        [positive, negative, jnp.where(called, 0.0, positive), jnp.where(called, negative, 0.0)]
    )
    # Full precision: the accelerators' default would round the weights.
    positives, negatives, missed, alarms = jnp.matmul(
        cells, members, precision=lax.Precision.HIGHEST
    )
    valid = jnp.all(jnp.isfinite(scores) | ~counted) & jnp.isfinite(threshold)
    fpr = _ratio(alarms, jnp.where(valid, negatives, 0.0))
    fnr = _ratio(missed, jnp.where(valid, positives, 0.0))
    accuracy = 1.0 - _ratio(alarms + missed, jnp.where(valid, positives + negatives, 0.0))
    return ErrorRates(
        fpr=fpr[0],
        fnr=fnr[0],
        accuracy=accuracy[0],
        group_fpr=fpr[1:],
        group_fnr=fnr[1:],
        group_accuracy=accuracy[1:],
    )


def equality_differences(rates: ErrorRates) -> EqualityDifferences:
    """False positive and false negative equality differences (FPED, FNED), as means over terms.

    Metric card:
        *Direction*: lower is better, 0…1.
        *Reading*: the overall rate is that of the whole set, comments without a term included. Read
        beside the rates themselves: a model that calls everything positive scores a perfect 0, and
        a shifted threshold moves both with no change in bias.
        *Source*: Dixon et al. 2018, "Measuring and Mitigating Unintended Bias in Text
        Classification", who print the sum over terms (and, in their table 5, over ten models): that
        is ``terms`` times the mean, and not comparable between lists of terms.
    """
    positive = jnp.abs(rates.group_fpr - rates.fpr)
    negative = jnp.abs(rates.group_fnr - rates.fnr)
    return EqualityDifferences(
        fped=jnp.nanmean(positive),
        fned=jnp.nanmean(negative),
        fped_worst=jnp.nanmax(positive),
        fned_worst=jnp.nanmax(negative),
        fped_terms=jnp.sum(~jnp.isnan(positive)),
        fned_terms=jnp.sum(~jnp.isnan(negative)),
    )


def worst_group_accuracy(rates: ErrorRates) -> Float[Array, ""]:
    """Lowest accuracy over all cells (term, label), with the term present.

    The worst-group accuracy of CivilComments in WILDS (Koh et al. 2021); NaN if no cell is defined.
    """
    return 1.0 - jnp.nanmax(jnp.concatenate([rates.group_fpr, rates.group_fnr]))


def power_mean(values: Float[Array, " i"], p: float = -5.0) -> Float[Array, ""]:
    """Generalised mean ``(mean v^p)^(1/p)`` of the values that are defined.

    With ``p = -5`` (Borkan et al. 2019) it lies near the lowest values: raising the worst term
    counts most. A zero among the values gives 0, its limit, when ``p`` is negative.

    Args:
      values: non-negative; NaN ones are left out. Count them with ``jnp.isnan``.
      p: the exponent.

    Returns:
      NaN if no value is defined.

    Raises:
      ValueError: ``p`` is zero.
    """
    if p == 0:
        raise ValueError("p=0 has no power mean; pass e.g. p=-5, or p=1 for the plain mean")
    defined = ~jnp.isnan(values)
    # Through logarithms, for 1e-8 to the power -5 is more than float32 can hold.
    powers = jnp.where(defined, p * jnp.log(jnp.where(defined, values, 1.0)), -jnp.inf)
    shift = jnp.max(powers, initial=-jnp.inf)
    shift = jnp.where(jnp.isfinite(shift), shift, 0.0)
    number = jnp.sum(defined)
    total = jnp.log(jnp.sum(jnp.exp(powers - shift)) / jnp.maximum(number, 1)) + shift
    return jnp.where(number > 0, jnp.exp(total / p), jnp.nan)


def kaggle_score(aucs: GroupAUCs, p: float = -5.0) -> Float[Array, ""]:
    """Final score of the Jigsaw Unintended Bias challenge, 0…1, higher is better.

    A quarter each of the overall AUC and of the power means of subgroup, BPSN and BNSP AUC. The
    public code turns NaN if one cell is empty; here such a term is left out of its mean.
    """
    means = [power_mean(values, p) for values in (aucs.subgroup, aucs.bpsn, aucs.bnsp)]
    return 0.25 * (aucs.overall + sum(means, start=jnp.float32(0.0)))


def counterfactual_dispersion(
    scores: Float[Array, " n"],
    blocks: Int[Array, "k v"],
    variance_of: Float[Array, " m"] | None = None,
) -> Float[Array, ""]:
    """How much of the scores' variance the identity term decides: ``E_c Var_t z(c, t) / Var z``.

    Metric card:
        *Direction*: lower is better; 0 = swapping the term never moves the score. Over the blocks
        themselves at most 1, by the law of total variance.
        *Reading*: needs no threshold; a shift or scaling of all scores changes nothing, so that a
        small value is not bought with small logits. Differentiable.

    Args:
      scores: ``[N]`` logits.
      blocks: ``[K, V]`` indices of scores; a row is one context with each of ``V`` terms.
      variance_of: scores whose variance is the denominator; None takes those of the blocks.

    Returns:
      NaN if the denominator is zero: a constant scorer is not called fair.

    Raises:
      ValueError: there are no blocks, or shapes do not fit.
    """
    check_shapes(scores=(scores, "n"), blocks=(blocks, "k v"), variance_of=(variance_of, "m"))
    check_integers(blocks=blocks)
    if blocks.size == 0:
        raise ValueError(f"blocks has shape {blocks.shape}; pass comments with counterfactuals")
    z = scores.astype(jnp.float32)[blocks]
    # Relative to one variant, for then equal scores have a variance of exactly zero.
    within = jnp.mean(jnp.var(z - z[:, :1], axis=1))
    reference = z if variance_of is None else variance_of.astype(jnp.float32)
    total = jnp.var(reference - reference.reshape(-1)[0])
    return _ratio(within, total)


def _ratio(numerator: Float[Array, "*s"], denominator: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """The ratio, NaN where the denominator is zero or less; its gradient is never NaN."""
    defined = denominator > 0
    return jnp.where(defined, numerator / jnp.where(defined, denominator, 1.0), jnp.nan)
