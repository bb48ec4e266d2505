"""Statistics over repeated runs: robust means, bootstrap intervals and paired tests.

Scores are NumPy arrays ``[S, B]``: S seeds (base networks) in rows, B tasks (for example forget
classes) in columns. The unit of replication is the seed; tasks are fixed strata. Every function
rejects values that are not finite, because sorting would silently trim them away.

The protocol follows Agarwal et al. 2021, "Deep reinforcement learning at the edge of the
statistical precipice" (rliable): interquartile mean, stratified bootstrap and probability of
improvement. It is written out here because it is short and rliable needs pandas < 3.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from modeledit_jax.imports import executed_at_first_use

with executed_at_first_use("scipy.stats"):
    import scipy.stats

Statistic: TypeAlias = Callable[..., Any]
"""``statistic(values, axis=axes)`` reducing the given axes: `interquartile_mean`, `np.mean`, ..."""

_BLOCK_ELEMENTS = 2**22
"""Resampled values held at a time (32 MB of float64)."""


class Interval(NamedTuple):
    """A point estimate with its 95% (or stated) interval; bounds are NaN where undefined."""

    point: float
    low: float
    high: float


class PairedDifference(NamedTuple):
    """Mean paired difference, its bootstrap interval and the Wilcoxon signed-rank p-value."""

    mean: float
    low: float
    high: float
    p_value: float


def interquartile_mean(values: ArrayLike, axis: int | tuple[int, ...] | None = None) -> Any:
    """Mean of the middle half: a quarter of the values (rounded down) is cut off at either end.

    Robust to outliers like the median, and statistically nearly as efficient as the mean
    (Agarwal et al. 2021, section 4.3).

    Args:
      values: real numbers of any shape, finite.
      axis: axes to reduce together; None reduces all.

    Returns:
      float64, the shape without the reduced axes.

    Raises:
      ValueError: if a value is not finite.
    """
    array = _finite(values)
    if axis is None:
        axis = tuple(range(array.ndim))
    axes = (axis,) if isinstance(axis, int) else axis
    kept = np.moveaxis(array, axes, tuple(range(-len(axes), 0)))
    pooled = kept.reshape(*kept.shape[: kept.ndim - len(axes)], -1)
    cut = pooled.shape[-1] // 4
    return np.sort(pooled, axis=-1)[..., cut : pooled.shape[-1] - cut].mean(axis=-1)


def stratified_bootstrap(
    scores: ArrayLike,
    statistic: Statistic = interquartile_mean,
    reps: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap of a statistic, resampling seeds independently within each task.

    The scheme of rliable (Agarwal et al. 2021, section 4.1): the interval says how much the
    statistic would move with other seeds on the *same* tasks. With a handful of seeds it is too
    narrow; report `hierarchical_bootstrap` beside it.

    Args:
      scores: ``[S, B]`` seeds by tasks, finite.
      statistic: called as ``statistic(samples [reps, S, B], axis=(-2, -1))``.
      reps: bootstrap replications.
      seed: of the resampling.
      confidence: coverage of the interval.

    Returns:
      The statistic of ``scores`` and the interval; NaN bounds for a single seed, whose
      variation cannot be estimated.

    Raises:
      ValueError: if scores are not a finite matrix.
    """
    matrix = _matrix(scores)
    seeds, tasks = matrix.shape
    columns = np.arange(tasks)

    def resample(rng: np.random.Generator, count: int) -> np.ndarray:
        return matrix[rng.integers(seeds, size=(count, seeds, tasks)), columns]

    return _percentile_interval(matrix, statistic, resample, reps, seed, confidence)


def hierarchical_bootstrap(
    scores: ArrayLike,
    statistic: Statistic = interquartile_mean,
    reps: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap that resamples seeds, then tasks within each drawn seed.

    Wider than `stratified_bootstrap` where tasks of one seed share their base network or where
    the claim is about tasks like these rather than these tasks. Arguments, result and errors
    are those of `stratified_bootstrap`.
    """
    matrix = _matrix(scores)
    seeds, tasks = matrix.shape

    def resample(rng: np.random.Generator, count: int) -> np.ndarray:
        rows = rng.integers(seeds, size=(count, seeds, 1))
        return matrix[rows, rng.integers(tasks, size=(count, seeds, tasks))]

    return _percentile_interval(matrix, statistic, resample, reps, seed, confidence)


def bootstrap_band(
    curves: ArrayLike, reps: int = 2_000, seed: int = 0, confidence: float = 0.95
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Pointwise interquartile mean of runs with its percentile bootstrap band.

    Whole runs are resampled, so neighbouring points of a band move together as the curves do.

    Args:
      curves: ``[B, K]`` runs by points, finite.
      reps: bootstrap replications.
      seed: of the resampling.
      confidence: pointwise coverage.

    Returns:
      IQM, low and high, ``[K]`` float64 each; NaN bounds for a single run.

    Raises:
      ValueError: if curves are not a finite matrix.
    """
    matrix = _matrix(curves)
    runs, points = matrix.shape
    center = interquartile_mean(matrix, axis=0)
    if runs == 1:
        return center, np.full(points, np.nan), np.full(points, np.nan)
    drawn = np.random.default_rng(seed).integers(runs, size=(reps, runs))
    width = max(1, _BLOCK_ELEMENTS // drawn.size)
    samples = np.concatenate(
        [
            interquartile_mean(matrix[:, start : start + width][drawn], axis=1)
            for start in range(0, points, width)
        ],
        axis=-1,
    )
    low, high = np.quantile(samples, _tails(confidence), axis=0)
    return center, low, high


def paired_difference(
    scores_a: ArrayLike, scores_b: ArrayLike, reps: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Mean of ``a - b`` over pairs of the same seed and task, with interval and p-value.

    The interval is the hierarchical bootstrap of the mean difference, because tasks of one seed
    share their network; the p-value is the two-sided Wilcoxon signed-rank test (SciPy's default
    treatment of zeros and ties), which treats the pairs as independent. Correct p-values over
    several comparisons with `holm`.

    Args:
      scores_a: ``[S, B]`` seeds by tasks, or ``[S]`` for one task.
      scores_b: the same shape, paired with ``scores_a``.
      reps: bootstrap replications.
      seed: of the resampling.

    Returns:
      The mean difference; p = 1 if all pairs are equal.

    Raises:
      ValueError: if the shapes differ or a value is not finite.
    """
    a, b = _finite(scores_a), _finite(scores_b)
    if a.shape != b.shape:
        raise ValueError(f"pairs need equal shapes, got {a.shape} and {b.shape}")
    differences = a - b
    strata = differences[:, None] if differences.ndim == 1 else differences
    interval = hierarchical_bootstrap(strata, np.mean, reps, seed)
    p_value = scipy.stats.wilcoxon(differences.ravel()).pvalue if differences.any() else 1.0
    return PairedDifference(*interval, float(p_value))


def probability_of_improvement(
    scores_a: ArrayLike, scores_b: ArrayLike, reps: int = 10_000, seed: int = 0
) -> Interval:
    """Probability that a run of ``a`` scores higher than one of ``b`` on a random task.

    Mean over tasks of ``P(A > B) + ½ P(A = B)`` (Agarwal et al. 2021, section 4.3), with a
    stratified bootstrap of both. ½ = no difference, 1 = every run of ``a`` is better.

    Args:
      scores_a: ``[S_a, B]`` seeds by tasks.
      scores_b: ``[S_b, B]``, the same tasks; seeds need not be paired.
      reps: bootstrap replications.
      seed: of the resampling.

    Returns:
      The probability with its 95% interval; NaN bounds if either has a single seed.

    Raises:
      ValueError: if the numbers of tasks differ or scores are not finite matrices.
    """
    a, b = _matrix(scores_a), _matrix(scores_b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"both need the same tasks, got {a.shape[1]} and {b.shape[1]} columns")
    # wins[i, j, t]: 1, ½ or 0 for a win, tie or loss of run i of a against run j of b on task t.
    wins = 0.5 * (np.sign(a[:, None] - b[None]) + 1.0)
    tasks = np.arange(a.shape[1])

    def resample(rng: np.random.Generator, count: int) -> np.ndarray:
        of_a = rng.integers(len(a), size=(count, len(a), 1, len(tasks)))
        of_b = rng.integers(len(b), size=(count, 1, len(b), len(tasks)))
        drawn = wins[of_a, of_b, tasks]
        return drawn.reshape(count, -1, len(tasks))

    pairs = wins.reshape(-1, len(tasks))
    interval = _percentile_interval(pairs, np.mean, resample, reps, seed, 0.95)
    return interval if min(len(a), len(b)) > 1 else Interval(interval.point, np.nan, np.nan)


def holm(p_values: ArrayLike) -> Float[np.ndarray, " m"]:
    """Holm's step-down adjustment of ``M`` p-values (Holm 1979), in the order given.

    Rejecting where the adjusted value is at most α keeps the chance of any false rejection
    below α, whatever the dependence of the tests.

    Raises:
      ValueError: if ``p_values`` is no vector of probabilities.
    """
    p = _finite(p_values)
    if p.ndim != 1 or p.min() < 0 or p.max() > 1:
        raise ValueError("holm needs a vector of p-values between 0 and 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def tost(differences: ArrayLike, margin: float) -> float:
    """p-value of equivalence: two one-sided t-tests that the mean lies within ±margin.

    Small values support ``|mean difference| < margin`` (Schuirmann 1987). For equivalence to
    Retrain take as margin the 95% spread between two retrainings.

    Args:
      differences: ``[n]`` paired differences, n >= 2, any shape (flattened), independent.
      margin: positive, in the units of the differences.

    Returns:
      The larger of the two one-sided p-values. Identical differences have no spread to test
      against: 0 if they lie strictly inside the margin, else 1.

    Raises:
      ValueError: if there are fewer than two values, one is not finite, or margin <= 0.
    """
    values = _finite(differences).ravel()
    if len(values) < 2 or not margin > 0:
        raise ValueError(f"tost needs 2 or more differences and a positive margin, got {margin}")
    distance = margin - abs(values.mean())  # from the nearer bound, whose test has the larger p
    if np.ptp(values) == 0:
        return 0.0 if distance > 0 else 1.0
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    return float(scipy.stats.t.sf(distance / standard_error, df=len(values) - 1))


def noise_margin(differences: ArrayLike, level: float = 0.95, least: float = 0.0) -> float:
    """How far apart two things of one kind are by chance: a margin for `tost`.

    Args:
      differences: of pairs that differ by chance alone, two retrainings say; any shape.
      level: share of the pairs that lie within the margin.
      least: the margin is not below it, where all pairs are equal.

    Returns:
      The quantile of the absolute differences.

    Raises:
      ValueError: a difference that is not finite.
    """
    return max(float(np.quantile(np.abs(_finite(differences)), level)), least)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean with its Student t-interval, for independent values that are roughly normal.

    Args:
      values: numbers of any shape (flattened), finite.
      confidence: coverage of the interval.

    Returns:
      The mean and the interval; NaN bounds for a single value.

    Raises:
      ValueError: if a value is not finite.
    """
    sample = _finite(values).ravel()
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, np.nan, np.nan)
    quantile = scipy.stats.t.ppf(0.5 + confidence / 2, df=len(sample) - 1)
    half_width = float(quantile * sample.std(ddof=1) / np.sqrt(len(sample)))
    return Interval(mean, mean - half_width, mean + half_width)


def _percentile_interval(
    scores: np.ndarray,
    statistic: Statistic,
    resample: Callable[[np.random.Generator, int], np.ndarray],
    reps: int,
    seed: int,
    confidence: float,
) -> Interval:
    """Point estimate on ``scores`` and quantiles of the statistic over ``reps`` resamples."""
    point = float(statistic(scores, axis=(-2, -1)))
    if len(scores) == 1:
        return Interval(point, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_ELEMENTS // scores.size)
    counts = [min(block, reps - start) for start in range(0, reps, block)]
    samples = np.concatenate([statistic(resample(rng, n), axis=(-2, -1)) for n in counts])
    low, high = np.quantile(samples, _tails(confidence))
    return Interval(point, float(low), float(high))


def _tails(confidence: float) -> tuple[float, float]:
    """Probabilities of the two ends of a central interval."""
    return 0.5 - confidence / 2, 0.5 + confidence / 2


def _finite(values: ArrayLike) -> np.ndarray:
    """As a non-empty float64 array without NaN or infinity."""
    array = np.asarray(values, np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError("statistics need finite values; drop or repair missing runs first")
    return array


def _matrix(scores: ArrayLike) -> np.ndarray:
    """As a finite [seeds, tasks] matrix."""
    matrix = _finite(scores)
    if matrix.ndim != 2:
        raise ValueError(f"scores must be [seeds, tasks], got shape {matrix.shape}")
    return matrix
