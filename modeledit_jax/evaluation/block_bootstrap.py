"""Intervals for fairness gains: networks and counterfactual contexts are both drawn anew.

The comments of a block share their context, and all blocks of a network share the network, so
neither comments nor blocks are independent. The bootstrap draws networks, then blocks within each
drawn network, and recomputes the equality differences; an edit and the network it edits are drawn
together (paired).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.evaluation.statistics import Interval


def equality_difference_samples(
    wrong: Bool[np.ndarray, "k v"],
    draws: Int[np.ndarray, "r k"],
    columns: Bool[np.ndarray, " v"] | None = None,
) -> Float[np.ndarray, " r"]:
    """Equality difference of an error rate in every resample of the blocks.

    Args:
      wrong: of the blocks of one label, whether the comment with each of the ``V`` terms is
        misjudged.
      draws: how often each resample holds each block.
      columns: the terms to average over; the overall rate is always that of all terms.

    Returns:
      Mean over terms of |rate − overall rate|.
    """
    check_shapes(wrong=(wrong, "k v"), draws=(draws, "r k"), columns=(columns, "v"))
    total = draws.sum(axis=1, keepdims=True)
    rates = draws @ wrong.astype(np.float64) / np.maximum(total, 1)
    gaps = np.abs(rates - rates.mean(axis=1, keepdims=True))
    return (gaps if columns is None else gaps[:, columns]).mean(axis=1)


def draw_blocks(blocks: int, reps: int, rng: np.random.Generator) -> Int[np.ndarray, "r k"]:
    """How often each of ``blocks`` is drawn in ``reps`` bootstrap resamples."""
    return rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=reps)


def paired_block_bootstrap(
    before: Sequence[Bool[np.ndarray, "k v"]],
    after: Sequence[Bool[np.ndarray, "k v"]],
    *,
    columns: Bool[np.ndarray, " v"] | None = None,
    relative: bool = False,
    reps: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Change of an equality difference by an edit, averaged over networks.

    Args:
      before: of each of ``S`` networks, ``wrong`` of the unedited one (see
        `equality_difference_samples`).
      after: the same of the edited one, on the same blocks.
      columns: the terms to average over; None: all.
      relative: as a fraction of the mean before; −0.5 = halved.
      reps: resamples.
      seed: of the drawing.
      confidence: coverage of the percentile interval.

    Returns:
      The change on the sample itself and its interval; a single network has an interval over its
      blocks alone. NaN where it is relative to no difference.

    Raises:
      ValueError: ``before`` and ``after`` do not match.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"need pairs of networks, got {len(before)} before and {len(after)} after")
    rng = np.random.default_rng(seed)
    point, sampled = [], []
    for unedited, edited in zip(before, after, strict=True):
        check_shapes(before=(unedited, "k v"), after=(edited, "k v"), columns=(columns, "v"))
        draws = draw_blocks(len(unedited), reps, rng)
        sampled.append([equality_difference_samples(x, draws, columns) for x in (unedited, edited)])
        once = np.ones((1, len(unedited)), int)
        point.append([equality_difference_samples(x, once, columns)[0] for x in (unedited, edited)])
    networks = rng.integers(len(before), size=(reps, len(before)))
    pairs = np.asarray(sampled)[networks, :, np.arange(reps)[:, None]].mean(axis=1)
    values = _change(pairs, relative)
    change = _change(np.mean(point, axis=0)[None], relative).item()
    if np.isnan(values).all():  # relative to no difference at all, which none can be smaller than
        return Interval(change, np.nan, np.nan)
    low, high = np.nanquantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(change, float(low), float(high))


def _change(pairs: Float[np.ndarray, "r 2"], relative: bool) -> Float[np.ndarray, " r"]:
    difference = pairs[..., 1] - pairs[..., 0]
    if not relative:
        return difference
    defined = pairs[..., 0] > 0
    return np.where(defined, difference / np.where(defined, pairs[..., 0], 1.0), np.nan)
