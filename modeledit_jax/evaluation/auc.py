"""Exact areas under the ROC curve of all identity groups from one ranking.

An AUC is the share of (positive, negative) pairs in which the positive has the higher score; a tie
counts one half (Mann–Whitney U over the number of pairs). All cells of a fairness report differ
only in which positives meet which negatives, and U is linear in the weights of both, so the wins of
every group of positives over every group of negatives follow from the cumulative weights of the
``T + 1`` columns of negatives (all of them, and those that mention each term) along one ranking. A
comment may mention several terms: columns overlap, and the rest of a group is all minus the group.

Subgroup, BPSN and BNSP AUC: Borkan et al. 2019, "Nuanced Metrics for Measuring Unintended Bias with
Real Data for Text Classification" (arXiv 1903.04561), where the equality gaps come from as well.

Conventions of every function here:
    *Shapes*: arrays that do not belong to the same examples are refused (ValueError).
    *Labels*: 1 is positive (toxic) and 0 negative; any other value, e.g. -1, marks an example
    without a label, which is left out, as is an example of weight 0.
    *Empty cells*: NaN, never one half.
    *Non-finite scores*: one in the set makes every result NaN. A sort would put NaN last and
    return a plausible number.
    *Precision*: counts are subtracted before they are divided, so that a group that holds nearly
    all examples loses nothing; exact to float32 rounding up to some 100,000 examples.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Num

from modeledit_jax import struct
from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.evaluation.ranking import Ranking, rank, sums_before
from modeledit_jax.types import Field


@struct.dataclass
class GroupAUCs:
    """Areas under the ROC curve of one model; NaN where a cell is empty."""

    overall: Field  # [] float32, all positives against all negatives
    subgroup: Field  # [I] float32, within the comments that mention the term
    bpsn: Field  # [I] float32, background positive, subgroup negative: low = false positives
    bnsp: Field  # [I] float32, background negative, subgroup positive: low = false negatives


@struct.dataclass
class EqualityGaps:
    """Average equality gaps, each in [-½, ½]; above 0 = the subgroup is scored higher."""

    positive: Field  # [I] float32, P(subgroup > background) - ½ among positives
    negative: Field  # [I] float32, the same among negatives


def auc(
    scores: Float[Array, " n"], label: Int[Array, " n"], weights: Num[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Area under the ROC curve; conventions of the module.

    Args:
      scores: higher means positive; logits, whose order a float32 sigmoid would blur.
      label: 0 or 1.
      weights: non-negative; None counts every example once.
    """
    check_scores(scores, label, None, weights)
    return group_aucs(scores, label, jnp.zeros((scores.shape[0], 0), jnp.float32), weights).overall


def group_aucs(
    scores: Float[Array, " n"],
    label: Int[Array, " n"],
    groups: Float[Array, "n i"],
    weights: Num[Array, " n"] | None = None,
) -> GroupAUCs:
    """Overall AUC, and subgroup, BPSN and BNSP AUC of every term; conventions of the module.

    BPSN compares the negatives that mention the term with the positives that do not; BNSP the
    positives that mention it with the negatives that do not. Many candidates at once are scored
    fastest a few at a time, ``jax.lax.map(..., batch_size=8)``, whose arrays stay in the cache.

    Args:
      scores: ``[N]`` logits.
      label: ``[N]``, 0 or 1.
      groups: ``[N, I]``, 1 where the example mentions the term, else 0; columns may overlap.
      weights: ``[N]``, non-negative; None counts every example once.
    """
    check_scores(scores, label, groups, weights)
    positive, negative = labeled_weights(label, weights)
    ranking = rank(scores, positive + negative > 0)
    wins = _wins(ranking, groups, positive, negative)
    within_wins = jnp.diagonal(wins, axis1=1, axis2=2)
    positives, rest_positives = _totals(positive, groups)
    negatives, rest_negatives = _totals(negative, groups)
    within = _share(within_wins, positives, negatives, ranking)
    return GroupAUCs(
        overall=within[0],
        subgroup=within[1:],
        bpsn=_share(wins[:, 0, 1:] - within_wins[:, 1:], rest_positives, negatives[1:], ranking),
        bnsp=_share(wins[:, 1:, 0] - within_wins[:, 1:], positives[1:], rest_negatives, ranking),
    )


def average_equality_gaps(
    scores: Float[Array, " n"],
    label: Int[Array, " n"],
    groups: Float[Array, "n i"],
    weights: Num[Array, " n"] | None = None,
) -> EqualityGaps:
    """``P(score of the subgroup > score of the rest) - ½`` among examples of the same label.

    Zero is fair; the sign is that of the code of Borkan et al.: above zero, the subgroup is scored
    higher. Arguments and conventions as in `group_aucs`.
    """
    check_scores(scores, label, groups, weights)
    positive, negative = labeled_weights(label, weights)
    ranking = rank(scores, positive + negative > 0)

    def gap(side: Float[Array, " n"]) -> Float[Array, " i"]:
        wins = _wins(ranking, groups, side, side)
        within_wins = jnp.diagonal(wins, axis1=1, axis2=2)[:, 1:]
        total, rest = _totals(side, groups)
        return _share(wins[:, 1:, 0] - within_wins, total[1:], rest, ranking) - 0.5

    return EqualityGaps(positive=gap(positive), negative=gap(negative))


def check_scores(
    scores: Array, label: Array, groups: Array | None = None, weights: Array | None = None
) -> None:
    """Raises ValueError unless scores, labels, groups and weights belong to the same examples.

    Arrays of other shapes would be broadcast against each other, ``[N, 1]`` labels to ``[N, N]``.
    """
    check_shapes(
        scores=(scores, "n"), label=(label, "n"), groups=(groups, "n i"), weights=(weights, "n")
    )
    check_integers(label=label)


def labeled_weights(
    label: Int[Array, " n"], weights: Num[Array, " n"] | None = None
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Weights of the positives and of the negatives; both are 0 for an example without a label."""
    check_shapes(label=(label, "n"), weights=(weights, "n"))
    weights = jnp.ones(label.shape, jnp.float32) if weights is None else weights.astype(jnp.float32)
    return jnp.where(label == 1, weights, 0.0), jnp.where(label == 0, weights, 0.0)


def _wins(
    ranking: Ranking,
    groups: Float[Array, "n i"],
    upper: Float[Array, " n"],
    lower: Float[Array, " n"],
) -> Float[Array, "k a a"]:
    """Weight of the pairs in which an upper example beats a lower one, ties one half.

    Returns:
      ``[K, 1 + I, 1 + I]``: wins of the upper examples in a block of places, by column of the upper
      and column of the lower example; column 0 is everyone. Not yet summed over blocks: in a
      block the counts are exact, so that a group may be subtracted from everyone.
    """
    members = jnp.pad(groups, ((0, 0), (1, 0)), constant_values=1.0)
    # Multiplied before they are put in order: under `vmap` over scores that is done once.
    above = ranking.in_order(members * upper[:, None])
    below = sums_before(ranking.in_order(members * lower[:, None]))
    beaten = (0.5 * (below[ranking.first] + below[ranking.past])).reshape(above.shape)
    return jnp.einsum("kna,knb->kab", above, beaten, precision=lax.Precision.HIGHEST)


def _totals(
    weights: Float[Array, " n"], groups: Float[Array, "n i"]
) -> tuple[Float[Array, " a"], Float[Array, " i"]]:
    """Total weight of everyone and of every group ``[1 + I]``, and outside every group ``[I]``."""
    inside = jnp.sum(weights[:, None] * groups, axis=0)
    outside = jnp.sum(weights[:, None] * (1.0 - groups), axis=0)
    return jnp.concatenate([jnp.sum(weights)[None], inside]), outside


def _share(
    wins: Float[Array, "k c"],
    upper: Float[Array, " c"],
    lower: Float[Array, " c"],
    ranking: Ranking,
) -> Float[Array, " c"]:
    """Sums wins over blocks as a share of ``upper · lower`` pairs; NaN if there are none."""
    defined = (upper > 0) & (lower > 0) & ranking.finite
    shares = wins / jnp.where(defined, lower, 1.0)
    while shares.shape[0] > 1:  # in pairs: a running float32 sum drifts over many blocks
        shares = jnp.pad(shares, ((0, shares.shape[0] % 2), (0, 0)))
        shares = shares[0::2] + shares[1::2]
    total = jnp.sum(shares, axis=0)
    return jnp.where(defined, total / jnp.where(defined, upper, 1.0), jnp.nan)
