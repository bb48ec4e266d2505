import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.evaluation.statistics import (
    bootstrap_band,
    hierarchical_bootstrap,
    holm,
    interquartile_mean,
    mean_interval,
    noise_margin,
    paired_difference,
    probability_of_improvement,
    stratified_bootstrap,
    tost,
)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_interquartile_mean_is_scipys_trimmed_mean(values):
    expected = scipy.stats.trim_mean(values, 0.25)
    assert interquartile_mean(values) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_interquartile_mean_reduces_any_axes(rng):
    x = rng.normal(size=(4, 5, 6))
    np.testing.assert_allclose(interquartile_mean(x, axis=1), scipy.stats.trim_mean(x, 0.25, 1))
    pooled = x.reshape(4, 30)
    expected = scipy.stats.trim_mean(pooled, 0.25, axis=1)
    np.testing.assert_allclose(interquartile_mean(x, axis=(1, 2)), expected)
    np.testing.assert_allclose(interquartile_mean(x, axis=(-2, -1)), expected)


def test_interquartile_mean_ignores_outliers_but_not_nan():
    assert interquartile_mean([-1e9, 1, 2, 3, 4, 1e9, 2, 3]) == 2.5
    with pytest.raises(ValueError, match="finite"):
        interquartile_mean([1.0, np.nan])
    with pytest.raises(ValueError, match="finite"):
        interquartile_mean([])


def test_stratified_bootstrap_of_one_task_matches_scipy(rng):
    sample = rng.normal(size=25)
    ours = stratified_bootstrap(sample[:, None], np.mean, reps=20_000)
    scipys = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    assert ours.point == sample.mean()
    np.testing.assert_allclose(ours[1:], scipys, atol=0.02)


def test_stratified_bootstrap_keeps_tasks_apart(rng):
    # Tasks that differ hugely but vary little: resampling must never mix their scores.
    scores = np.array([0.0, 100.0, 500.0]) + 0.01 * rng.normal(size=(6, 3))
    point, low, high = stratified_bootstrap(scores, np.mean)
    assert 199.98 < low < point < high < 200.02
    # Closed form: var of the mean = sum over tasks of population variance / S, over B².
    error = np.sqrt(scores.var(axis=0).sum() / 6) / 3
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)


def test_hierarchical_bootstrap_sees_that_tasks_share_their_seed(rng):
    # All variation lies between seeds: ten tasks are no more evidence than one.
    by_seed = rng.normal(size=(8, 1))
    scores = np.repeat(by_seed, 10, axis=1)
    _, low, high = hierarchical_bootstrap(scores, np.mean)
    error = by_seed.std() / np.sqrt(8)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.1)
    _, s_low, s_high = stratified_bootstrap(scores, np.mean)
    assert (s_high - s_low) < 0.5 * (high - low)


@pytest.mark.parametrize("bootstrap", [stratified_bootstrap, hierarchical_bootstrap])
def test_bootstraps_are_deterministic_and_accept_any_statistic(bootstrap, rng):
    scores = rng.normal(size=(5, 4))
    assert bootstrap(scores) == bootstrap(scores)
    assert bootstrap(scores) != bootstrap(scores, seed=1)
    assert bootstrap(scores).point == interquartile_mean(scores)
    assert bootstrap(scores, np.median, reps=500).point == np.median(scores)
    narrow, wide = bootstrap(scores, confidence=0.5), bootstrap(scores, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize("bootstrap", [stratified_bootstrap, hierarchical_bootstrap])
def test_one_seed_has_no_interval(bootstrap):
    point, low, high = bootstrap([[1.0, 2.0, 3.0, 4.0]])
    assert point == 2.5 and np.isnan(low) and np.isnan(high)


def test_bootstrap_coverage_of_a_normal_mean_is_roughly_nominal(rng):
    hits = 0
    for seed in range(300):
        scores = 1.0 + rng.normal(size=(20, 3))
        _, low, high = stratified_bootstrap(scores, np.mean, reps=400, seed=seed)
        hits += low <= 1.0 <= high
    # Nominal 95%; the percentile interval at n = 20 covers about 93-94%.
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_is_the_same_in_blocks(rng, monkeypatch):
    scores = rng.normal(size=(4, 3))
    whole = stratified_bootstrap(scores, np.mean, reps=5_000)
    monkeypatch.setattr("modeledit_jax.evaluation.statistics._BLOCK_ELEMENTS", 12 * 700)
    np.testing.assert_allclose(stratified_bootstrap(scores, np.mean, reps=5_000), whole, atol=0.02)
    curves = rng.normal(size=(6, 30))
    monkeypatch.setattr("modeledit_jax.evaluation.statistics._BLOCK_ELEMENTS", 6 * 100 * 7)
    in_blocks = bootstrap_band(curves, reps=100)
    monkeypatch.setattr("modeledit_jax.evaluation.statistics._BLOCK_ELEMENTS", 10**9)
    np.testing.assert_array_equal(bootstrap_band(curves, reps=100), in_blocks)


def test_ten_thousand_replications_take_well_under_a_second(rng):
    scores = rng.normal(size=(5, 10))
    start = time.perf_counter()
    stratified_bootstrap(scores, reps=10_000)
    assert time.perf_counter() - start < 1.0


def test_bootstrap_band_is_the_bootstrap_of_every_point(rng):
    curves = np.cumsum(rng.normal(size=(12, 7)), axis=1)
    center, low, high = bootstrap_band(curves, reps=10_000)
    for k in range(7):
        interval = stratified_bootstrap(curves[:, k : k + 1])
        assert center[k] == pytest.approx(interval.point)
        spread = interval.high - interval.low
        np.testing.assert_allclose([low[k], high[k]], interval[1:], atol=0.06 * spread)


def test_bootstrap_band_of_one_run_is_that_run():
    center, low, high = bootstrap_band([[1.0, 2.0]])
    np.testing.assert_array_equal(center, [1.0, 2.0])
    assert np.isnan(low).all() and np.isnan(high).all()


def test_paired_difference_matches_scipy(rng):
    a = rng.normal(size=(5, 6))
    b = a - 0.2 + 0.3 * rng.normal(size=(5, 6))
    result = paired_difference(a, b)
    assert result.mean == pytest.approx((a - b).mean())
    assert result.p_value == pytest.approx(scipy.stats.wilcoxon((a - b).ravel()).pvalue)
    assert result.low < result.mean < result.high
    assert tuple(result)[:3] == hierarchical_bootstrap(a - b, np.mean)


def test_paired_difference_of_one_task_and_of_equal_runs():
    # Differences 1, 2, 3, 4, 5, all positive: exact p = 2 / 2^5.
    result = paired_difference([2.0, 4.0, 6.0, 8.0, 10.0], [1.0, 2.0, 3.0, 4.0, 5.0])
    assert result.mean == 3 and result.p_value == pytest.approx(2 / 32)
    same = paired_difference([0.5, 0.25], [0.5, 0.25])
    assert same == (0.0, 0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="equal shapes"):
        paired_difference([1.0, 2.0], [1.0])


def test_probability_of_improvement_matches_mann_whitney(rng):
    a = rng.integers(0, 6, size=(5, 4)).astype(float)  # integers, so that there are ties
    b = rng.integers(0, 5, size=(7, 4)).astype(float)
    per_task = [
        scipy.stats.mannwhitneyu(a[:, t], b[:, t], alternative="greater").statistic / 35
        for t in range(4)
    ]
    result = probability_of_improvement(a, b)
    assert result.point == pytest.approx(np.mean(per_task))
    assert result.low < result.point < result.high
    assert probability_of_improvement(b, a).point == pytest.approx(1 - result.point)


def test_probability_of_improvement_extremes(rng):
    scores = rng.uniform(size=(4, 3))
    assert probability_of_improvement(scores + 2, scores) == (1.0, 1.0, 1.0)
    assert probability_of_improvement(scores, scores).point == pytest.approx(0.5)
    point, low, high = probability_of_improvement(scores[:1] + 2, scores)
    assert point == 1 and np.isnan(low) and np.isnan(high)
    with pytest.raises(ValueError, match="same tasks"):
        probability_of_improvement(scores, scores[:, :2])


def test_probability_of_improvement_resamples_runs_not_pairs(rng):
    # One outlying run of a decides all of its pairs at once, so the interval must stay wide:
    # P = 1/2 with sd sqrt(1/4 / 4) over the 4 runs of a, however many runs b has.
    a = np.array([[0.0], [0.0], [2.0], [2.0]])
    _, low, high = probability_of_improvement(a, np.ones((50, 1)))
    assert low == 0.0 and high == 1.0


def test_holm_hand_case():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then made monotone.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_the_step_down_rule_does(p_values):
    adjusted = holm(p_values)
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[index] * (len(p_values) - step) > alpha:
                break
            rejected.add(int(index))
        assert set(np.flatnonzero(adjusted <= alpha)) == rejected


@pytest.mark.parametrize("bad", [[0.5, np.nan], [1.2], [-0.1], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError):
        holm(bad)


@pytest.mark.parametrize("shift", [-0.3, 0.0, 0.05, 2.0])
def test_tost_matches_two_one_sided_scipy_tests(rng, shift):
    d = shift + 0.4 * rng.normal(size=15)
    lower = scipy.stats.ttest_1samp(d, -0.25, alternative="greater").pvalue
    upper = scipy.stats.ttest_1samp(d, 0.25, alternative="less").pvalue
    assert tost(d, 0.25) == pytest.approx(max(lower, upper), rel=1e-9)


def test_tost_without_spread_and_bad_input():
    assert tost([0.1, 0.1, 0.1], 0.2) == 0.0
    assert tost([0.3, 0.3, 0.3], 0.2) == 1.0
    for differences, margin in (([0.1], 0.2), ([0.1, 0.2], 0.0)):
        with pytest.raises(ValueError, match="tost needs"):
            tost(differences, margin)


def test_mean_interval_matches_scipy(rng):
    x = rng.normal(size=9)
    expected = scipy.stats.ttest_1samp(x, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(mean_interval(x)[1:], expected)
    assert mean_interval(x).point == pytest.approx(x.mean())
    point, low, high = mean_interval([3.0])
    assert point == 3 and np.isnan(low) and np.isnan(high)


@pytest.mark.parametrize("scores", [[1.0, 2.0], [[1.0, np.inf]], [[]]])
def test_scores_must_be_a_finite_matrix(scores):
    with pytest.raises(ValueError):
        stratified_bootstrap(scores)


def test_noise_margin_holds_its_share_of_the_pairs(rng):
    differences = rng.normal(size=(4, 5, 50))
    margin = noise_margin(differences)
    assert np.mean(np.abs(differences) <= margin) == pytest.approx(0.95, abs=1e-3)
    assert margin == pytest.approx(scipy.stats.norm.ppf(0.975), abs=0.15)
    assert noise_margin(-differences) == margin
    assert noise_margin(np.zeros(3), least=0.01) == 0.01 and noise_margin([0.2], least=0.01) == 0.2
    with pytest.raises(ValueError, match="finite"):
        noise_margin([np.nan])
