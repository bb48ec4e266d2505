"""Intervals for what an edit does on a suite of counterfactual contexts, by networks and contexts.

As in `block_bootstrap`, networks and the contexts of a suite are both drawn anew, and an edit, the
network it edits and the controls are drawn together. Here one draw gives several statistics, a
network may be edited several times (once for every fold of held-out terms: these share its draws),
and the change of one edit is compared with that of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.evaluation.block_bootstrap import draw_blocks, equality_difference_samples
from modeledit_jax.evaluation.statistics import Interval

STATISTICS = ("dispersion", "fped", "fned", "fpr", "fnr")


@dataclass(frozen=True, eq=False)
class BlockScores:
    """Scores of one classifier on a suite.

    Attributes:
      scores: ``[K, V]`` logits of ``K`` contexts with each of ``V`` terms.
      label: ``[K]``, 1 = toxic.
      threshold: a score at or above it is called toxic.
      variance: of the classifier's scores on other comments, the unit of the dispersion.
      columns: ``[V]``, the terms that FPED, FNED and dispersion are of; rates are of all terms.
    """

    scores: Float[np.ndarray, "k v"]
    label: Int[np.ndarray, " k"]
    threshold: float
    variance: float
    columns: Bool[np.ndarray, " v"]

    def __post_init__(self) -> None:
        check_shapes(
            scores=(self.scores, "k v"), label=(self.label, "k"), columns=(self.columns, "v")
        )

    def statistics(self, draws: Sequence[Int[np.ndarray, "r _"]]) -> Float[np.ndarray, "r 5"]:
        """`STATISTICS` in every resample; NaN where there is no context of a label.

        Args:
          draws: how often each resample holds each of the contexts of label 0, and of label 1.
        """
        found = np.full((len(draws[0]), len(STATISTICS)), np.nan)
        within = np.zeros(len(draws[0]))
        for label, name in ((0, "fp"), (1, "fn")):
            chosen = self.scores[self.label == label]
            if not len(chosen):
                continue
            wrong = (chosen >= self.threshold) != bool(label)
            columns = self.columns
            found[:, STATISTICS.index(f"{name}ed")] = equality_difference_samples(
                wrong, draws[label], columns
            )
            number = draws[label].sum(axis=1)
            rate = draws[label] @ wrong.mean(axis=1) / np.maximum(number, 1)
            found[:, STATISTICS.index(f"{name}r")] = rate
            within += draws[label] @ chosen[:, columns].var(axis=1)
        contexts = draws[0].sum(axis=1) + draws[1].sum(axis=1)
        found[:, STATISTICS.index("dispersion")] = within / contexts / self.variance
        return found


def resample(
    scores: Sequence[Sequence[BlockScores]], *, reps: int = 2000, seed: int = 0
) -> Float[np.ndarray, "s draws 5"]:
    """Statistics of each of ``S`` networks, means over its folds.

    Contexts are drawn within their label, by a generator of ``seed`` for every network: equal for
    all classifiers on the same suite.

    Args:
      scores: of every network, one entry for each fold.
      reps: resamples.
      seed: of the drawing.

    Returns:
      ``draws`` is ``1 + reps``: first the sample itself, then the resamples.
    """
    rng, found = np.random.default_rng(seed), []
    for folds in scores:
        sizes = [int((folds[0].label == label).sum()) for label in (0, 1)]
        draws = [
            np.concatenate([np.ones((1, size), int), draw_blocks(size, reps, rng)])
            if size
            else np.zeros((1 + reps, 0), int)
            for size in sizes
        ]
        found.append(np.mean([fold.statistics(draws) for fold in folds], axis=0))
    return np.stack(found)


@dataclass(frozen=True)
class Changes:
    """Changes of one statistic over the networks drawn: the sample itself first."""

    values: Float[np.ndarray, " draws"]

    def interval(self, confidence: float = 0.95) -> Interval:
        """The change and its percentile interval; NaN where it is relative to nothing."""
        drawn = self.values[1:]
        if np.isnan(drawn).all():
            return Interval(float(self.values[0]), np.nan, np.nan)
        low, high = np.nanquantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
        return Interval(float(self.values[0]), float(low), float(high))

    def less(self, other: "Changes") -> "Changes":
        """This change minus another, draw by draw."""
        return Changes(self.values - other.values)


def changes(
    before: Float[np.ndarray, "_ _ 5"],
    after: Float[np.ndarray, "_ _ 5"],
    relative: Sequence[str] = ("dispersion", "fped", "fned"),
    seed: int = 0,
) -> Mapping[str, Changes]:
    """Changes of the means over networks, which are drawn anew in every resample.

    Args:
      before, after: ``[S, draws, 5]`` of `resample`, of the same networks and suite.
      relative: statistics whose change is a fraction of the value before; of the others it is the
        difference.
      seed: of the drawing of networks; equal for all edits of the same number of networks.

    Raises:
      ValueError: other networks or draws.
    """
    if before.shape != after.shape:
        raise ValueError(f"statistics of shape {before.shape} before and {after.shape} after")
    networks, draws = before.shape[:2]
    drawn = np.random.default_rng(seed).integers(networks, size=(networks, draws))
    drawn[:, 0] = np.arange(networks)
    place = np.arange(draws)
    first, second = (x[drawn, place].mean(axis=0) for x in (before, after))
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            name: Changes(
                np.where(first[:, i] > 0, second[:, i] / first[:, i] - 1.0, np.nan)
                if name in relative
                else second[:, i] - first[:, i]
            )
            for i, name in enumerate(STATISTICS)
        }
