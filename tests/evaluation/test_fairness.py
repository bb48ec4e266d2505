import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, roc_curve

from modeledit_jax.evaluation.auc import average_equality_gaps, group_aucs
from modeledit_jax.evaluation.calibration import expected_calibration_error
from modeledit_jax.evaluation.fairness import (
    counterfactual_dispersion,
    equal_error_threshold,
    equality_differences,
    error_rates,
    kaggle_score,
    power_mean,
    worst_group_accuracy,
)
from modeledit_jax.evaluation.fairness_report import fairness_metrics, per_term

# One program each, and few shapes: what is compiled takes most of the time.
threshold_of = jax.jit(equal_error_threshold)
dispersion = jax.jit(counterfactual_dispersion)
rates_of = jax.jit(error_rates)
differences_of = jax.jit(equality_differences)
calibration_of = jax.jit(expected_calibration_error, static_argnames="bins")
power_mean_of = jax.jit(power_mean, static_argnames="p")

N, TERMS = 300, 4


def sample(seed, n=N, terms=TERMS):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(np.int32)
    groups = (rng.random((n, terms)) < 0.3).astype(np.float32)
    scores = np.round(rng.normal(size=n) + label + groups @ np.linspace(-1, 1, terms), 2)
    return scores.astype(np.float32), label, groups


def arrays(*values):
    return [jnp.asarray(value) for value in values]


def by_hand():
    """Two terms; at threshold 0, FPR: all 2/4, a 1/2, b 1/1; FNR: all 1/4, a 0/1, b 1/2."""
    rows = [  # score, label, a, b
        (1.0, 0, 1, 0),
        (-1.0, 0, 1, 0),
        (0.0, 0, 0, 1),  # on the threshold: called positive
        (-2.0, 0, 0, 0),
        (3.0, 1, 1, 0),
        (-0.5, 1, 0, 1),
        (2.0, 1, 0, 1),
        (2.0, 1, 0, 0),
    ]
    table = np.array(rows, np.float32)
    return arrays(table[:, 0], table[:, 1].astype(np.int32), table[:, 2:])


def test_equality_differences_by_hand():
    rates = rates_of(*by_hand(), 0.0)
    np.testing.assert_allclose([rates.fpr, rates.fnr, rates.accuracy], [0.5, 0.25, 5 / 8])
    np.testing.assert_allclose(rates.group_fpr, [0.5, 1])
    np.testing.assert_allclose(rates.group_fnr, [0, 0.5])
    np.testing.assert_allclose(rates.group_accuracy, [2 / 3, 1 / 3], rtol=1e-6)
    result = differences_of(rates)
    np.testing.assert_allclose([result.fped, result.fned], [(0 + 0.5) / 2, (0.25 + 0.25) / 2])
    np.testing.assert_allclose([result.fped_worst, result.fned_worst], [0.5, 0.25])
    assert int(result.fped_terms) == int(result.fned_terms) == 2
    assert float(jax.jit(worst_group_accuracy)(rates)) == 0  # b, not toxic


def test_rates_match_scikit_learn_and_the_mean_is_dixons_sum_over_terms():
    scores, label, groups = sample(seed=0)
    rates = rates_of(*arrays(scores, label, groups), 0.3)
    called = (scores >= np.float32(0.3)).astype(int)

    def expected(keep):
        (tn, fp), (fn, tp) = confusion_matrix(label[keep], called[keep])
        return fp / (fp + tn), fn / (fn + tp), (tp + tn) / keep.sum()

    overall = expected(np.ones(N, bool))
    terms = np.array([expected(g > 0) for g in groups.T])
    np.testing.assert_allclose([rates.fpr, rates.fnr, rates.accuracy], overall, atol=1e-6)
    np.testing.assert_allclose(
        np.stack([rates.group_fpr, rates.group_fnr, rates.group_accuracy], 1), terms, atol=1e-6
    )
    found = differences_of(rates)
    for rate, mean in enumerate((found.fped, found.fned)):
        dixon = sum(abs(overall[rate] - own) for own in terms[:, rate])
        np.testing.assert_allclose(TERMS * float(mean), dixon, atol=1e-6)


def test_terms_without_a_class_are_left_out_and_counted():
    scores, label, groups = by_hand()
    groups = np.asarray(groups)
    groups = np.stack([*groups.T, np.zeros(8), np.asarray(label) * groups[:, 0]], 1)
    rates = rates_of(scores, label, jnp.asarray(groups, jnp.float32), 0.0)
    np.testing.assert_array_equal(np.isnan(rates.group_fpr), [0, 0, 1, 1])
    np.testing.assert_array_equal(np.isnan(rates.group_fnr), [0, 0, 1, 0])
    result = differences_of(rates)
    assert (int(result.fped_terms), int(result.fned_terms)) == (2, 3)
    np.testing.assert_allclose([result.fped, result.fned], [0.25, 0.25])
    none = differences_of(rates_of(scores, label, jnp.zeros((8, 4)), 0.0))
    assert np.isnan([none.fped, none.fned_worst]).all() and int(none.fped_terms) == 0


def test_weights_and_missing_labels_leave_examples_out():
    scores, label, groups = sample(seed=1)
    keep = np.arange(N) % 3 != 0
    expected = rates_of(*arrays(scores[keep], label[keep], groups[keep]), 0.0)
    scores[~keep] = np.nan
    weights = jnp.asarray(keep.astype(np.float32))
    result = rates_of(*arrays(scores, label, groups), 0.0, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), result, expected)
    label[~keep] = -1
    result = rates_of(*arrays(scores, label, groups), 0.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), result, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(bad):
    scores, label, groups = by_hand()
    broken = np.array(scores)
    broken[3] = bad
    broken = jnp.asarray(broken)
    results = [
        rates_of(broken, label, groups, 0.0),
        rates_of(scores, label, groups, bad),
        threshold_of(broken, label),
        calibration_of(broken, label, groups),
    ]
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(results))


def test_equal_error_threshold_is_the_best_of_all_scores():
    for seed in range(4):
        scores, label, groups = sample(seed=seed)
        false_positive, true_positive, thresholds = roc_curve(
            label, scores, drop_intermediate=False
        )
        gaps = np.abs(false_positive - (1 - true_positive))[1:]  # the first threshold is infinite
        actual = threshold_of(*arrays(scores, label))
        assert np.sum(gaps < gaps.min() + 1e-6) == 1
        assert float(actual) == thresholds[1:][gaps.argmin()]
        rates = rates_of(*arrays(scores, label, groups), actual)
        np.testing.assert_allclose(abs(float(rates.fpr) - float(rates.fnr)), gaps.min(), atol=1e-6)


def test_equal_error_threshold_conventions():
    def threshold(scores, label, weights=None):
        """Filled up to eight examples: those of no weight or of no label do not count."""
        fill = 8 - len(scores)
        if weights is not None:
            weights = jnp.asarray([*weights, *[0.0] * fill], jnp.float32)
        scores = jnp.asarray([*scores, *[1.5] * fill], jnp.float32)
        return float(threshold_of(scores, jnp.asarray([*label, *[-1] * fill]), weights))

    # Separable: called positive from the lowest positive on.
    assert threshold([-1.0, 0.5, 2.0, 3.0], [0, 0, 1, 1]) == 2
    # At 1 the gap is |1 - 1/2|, at 2 it is |0 - 1/2|: the higher is taken.
    assert threshold([1.0, 1.0, 0.0, 2.0], [0, 0, 1, 1]) == 2
    # Rates, not counts: one of 4 negatives against one of one positive.
    assert threshold([0.0, 1.0, 2.0, 4.0, 3.0], [0, 0, 0, 0, 1]) == 3
    assert threshold([5.0, 5.0, 5.0], [0, 1, 1]) == 5
    assert threshold([0.0, -0.0, 1.0], [0, 0, 1]) == 1
    # Padding is no candidate, whatever its score.
    assert (
        threshold([-1.0, 0.5, 2.0, 3.0, 0.0, np.nan], [0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]) == 2
    )
    assert np.isnan(threshold([0.0, 1.0], [1, 1]))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0.125, 1, width=32), min_size=5, max_size=5), st.sampled_from([-5.0, 2.0])
)
def test_power_mean_matches_scipy_and_lies_between_the_extremes(values, p):
    actual = float(power_mean_of(jnp.asarray(values), p))
    np.testing.assert_allclose(actual, scipy.stats.pmean(values, p), rtol=1e-5)
    with_nan = float(power_mean_of(jnp.asarray([*values, np.nan]), p))
    np.testing.assert_allclose(with_nan, actual, rtol=1e-6)
    assert min(values) - 1e-6 <= actual <= max(values) + 1e-6


def test_power_mean_limits():
    assert float(power_mean_of(jnp.array([0.0, 0.9, 1.0]))) == 0
    np.testing.assert_allclose(power_mean_of(jnp.array([1e-9] * 3)), 1e-9, rtol=1e-5)
    np.testing.assert_allclose(power_mean_of(jnp.array([0.7] * 3)), 0.7, rtol=1e-6)
    assert np.isnan(power_mean_of(jnp.array([np.nan] * 3)))
    slope = jax.jit(jax.grad(power_mean))(jnp.array([0.5, 0.8, np.nan]))
    slope = np.asarray(slope)
    assert slope[0] > slope[1] > 0 and slope[2] == 0
    with pytest.raises(ValueError, match="p=0"):
        power_mean(jnp.ones(2), 0.0)


def test_kaggle_score_is_the_formula():
    data = sample(seed=2)
    aucs = jax.jit(group_aucs)(*arrays(*data))
    means = [scipy.stats.pmean(np.asarray(m), -5) for m in (aucs.subgroup, aucs.bpsn, aucs.bnsp)]
    np.testing.assert_allclose(
        jax.jit(kaggle_score)(aucs), 0.25 * float(aucs.overall) + 0.25 * sum(means), rtol=1e-5
    )


def blocks_of(scores):
    return jnp.asarray(np.arange(scores.size).reshape(scores.shape))


def test_counterfactual_dispersion_matches_numpy_and_has_no_scale():
    scores = np.random.default_rng(3).normal(size=(7, 5)).astype(np.float32)
    expected = scores.var(axis=1).mean() / scores.var()
    flat, blocks = jnp.asarray(scores.ravel()), blocks_of(scores)
    actual = float(dispersion(flat, blocks))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    moved = jnp.asarray(3 * scores.ravel() + 9)
    np.testing.assert_allclose(dispersion(moved, blocks), actual, rtol=1e-4)
    other = jnp.asarray(np.linspace(-3, 3, 50), jnp.float32)
    np.testing.assert_allclose(
        dispersion(flat, blocks, other),
        scores.var(axis=1).mean() / np.var(other),
        rtol=1e-5,
    )
    with pytest.raises(ValueError, match="counterfactuals"):
        counterfactual_dispersion(flat, jnp.zeros((0, 0), jnp.int32))


def test_counterfactual_dispersion_extremes_and_gradient():
    slope_of = jax.jit(jax.grad(counterfactual_dispersion))
    fair = np.repeat(np.linspace(-1.1, 2.3, 6), 3).astype(np.float32)
    blocks = jnp.asarray(np.arange(18).reshape(6, 3))
    assert float(dispersion(jnp.asarray(fair), blocks)) == 0
    only_term = jnp.asarray(np.tile([0.1, 0.7, -2.0], 6), jnp.float32)
    np.testing.assert_allclose(dispersion(only_term, blocks), 1, rtol=1e-6)
    constant = jnp.asarray([0.3] * 18)
    assert np.isnan(dispersion(constant, blocks))
    assert np.isfinite(slope_of(constant, blocks)).all()
    scores = fair + np.random.default_rng(0).normal(size=18).astype(np.float32)
    slope = np.asarray(slope_of(jnp.asarray(scores), blocks))
    step = np.float32(1e-2) * np.eye(18, dtype=np.float32)[4]
    above, below = (float(dispersion(jnp.asarray(scores + s), blocks)) for s in (step, -step))
    np.testing.assert_allclose(slope[4], (above - below) / 2e-2, rtol=2e-2)


def test_calibration_error_matches_bins_in_numpy():
    scores, label, groups = sample(seed=4)
    weights = np.random.default_rng(4).choice([0.0, 1.0, 2.0], N).astype(np.float32)
    actual = calibration_of(*arrays(scores, label, groups, weights), bins=10)

    def expected(w):
        p = scipy.special.expit(scores.astype(np.float64))
        index = np.minimum(np.floor(p * 10), 9)
        bins = [index == b for b in range(10) if w[index == b].sum() > 0]
        parts = [
            w[b].sum() * abs(np.average(label[b], weights=w[b]) - np.average(p[b], weights=w[b]))
            for b in bins
        ]
        return sum(parts) / w.sum()

    np.testing.assert_allclose(actual.overall, expected(weights), atol=1e-5)
    np.testing.assert_allclose(actual.group, [expected(weights * g) for g in groups.T], atol=1e-5)


def test_calibration_error_extremes():
    label = jnp.array([0, 1, 0, 1])
    groups = jnp.array([[1.0, 0], [1, 0], [0, 0], [0, 0]])
    even = calibration_of(jnp.zeros(4), label, groups)
    assert float(even.overall) == 0 == np.asarray(even.group)[0] and np.isnan(even.group)[1]
    wrong = calibration_of(jnp.array([90.0, -90, 90, -90]), label, groups)
    np.testing.assert_allclose(wrong.overall, 1)
    with pytest.raises(ValueError, match="bins is 0"):
        expected_calibration_error(jnp.zeros(4), label, groups, bins=0)


def complete_blocks(contexts=75, terms=4, seed=5):
    """Every context with each term; labels and context scores."""
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.permutation(np.arange(contexts) % 2), terms).astype(np.int32)
    groups = np.tile(np.eye(terms, dtype=np.float32), (contexts, 1))
    scores = np.repeat(rng.normal(size=contexts), terms).astype(np.float32)
    return scores + label, label, groups, np.arange(contexts * terms).reshape(contexts, terms)


def test_a_scorer_blind_to_identity_is_perfectly_fair():
    scores, label, groups, blocks = complete_blocks()
    threshold = threshold_of(*arrays(scores, label))
    values = fairness_metrics(scores, label, groups, threshold, blocks=blocks)
    for name in ("fped", "fned", "fped_worst", "fned_worst", "counterfactual_dispersion"):
        assert values[name] == 0, name
    np.testing.assert_allclose([values["positive_aeg"], values["negative_aeg"]], 0, atol=1e-6)
    for name in ("subgroup_m5", "subgroup_min", "bpsn_m5", "bpsn_min", "bnsp_m5", "kaggle_score"):
        np.testing.assert_allclose(values[name], values["auc"], rtol=1e-5)
    biased = scores + groups @ np.array([2, 0, 0, -2], np.float32)
    worse = fairness_metrics(biased, label, groups, threshold, blocks=blocks)
    assert worse["fped"] > 0.1 and worse["bpsn_min"] < values["bpsn_min"] - 0.1
    assert worse["counterfactual_dispersion"] > 0.3 and worse["negative_aeg"] > 0.1
    assert worse["worst_group_accuracy"] < values["worst_group_accuracy"]


def test_a_shifted_threshold_moves_rates_and_no_auc():
    scores, label, groups = sample(seed=6)
    here, there = (fairness_metrics(scores, label, groups, tau) for tau in (0.0, 1.5))
    assert abs(here["fped"] - there["fped"]) > 0.01
    for name in ("auc", "bpsn_m5", "bnsp_min", "kaggle_score", "positive_aeg", "ece"):
        assert here[name] == there[name]


@pytest.mark.slow
def test_the_report_is_complete_and_agrees_with_its_parts():
    scores, label, groups = sample(seed=7)
    groups[:, 3] = label * groups[:, 3]  # a term without negatives
    values = fairness_metrics(scores, label, groups, 0.2, blocks=np.zeros((0, 0), np.int32))
    cells = [f"{cell}_{kind}" for cell in ("subgroup", "bpsn", "bnsp") for kind in ("m5", "min")]
    counts = [f"{name}_terms" for name in ("fped", "fned", "subgroup", "bpsn", "bnsp")]
    assert set(values) == {
        *("auc", "accuracy", "fpr", "fnr", "ece", "kaggle_score", "worst_group_accuracy"),
        *("fped", "fned", "fped_worst", "fned_worst", "ece_worst_group"),
        *("positive_aeg", "negative_aeg", *cells, *counts),
    }
    assert all(isinstance(value, float) and np.isfinite(value) for value in values.values())
    assert [values[name] for name in counts] == [3, 4, 3, 3, 4]
    table = per_term(scores, label, groups, 0.2)
    assert all(column.shape == (4,) for column in table.values())
    np.testing.assert_allclose(table["positives"], (groups * label[:, None]).sum(0))
    np.testing.assert_allclose(table["negatives"], (groups * (1 - label)[:, None]).sum(0))
    gaps = jax.jit(average_equality_gaps)(*arrays(scores, label, groups))
    for name, expected in {
        "fped": np.nanmean(np.abs(table["fpr"] - values["fpr"])),
        "fned_worst": np.nanmax(np.abs(table["fnr"] - values["fnr"])),
        "bpsn_min": np.nanmin(table["bpsn_auc"]),
        "bnsp_m5": scipy.stats.pmean(table["bnsp_auc"], -5),
        "subgroup_min": np.nanmin(table["subgroup_auc"]),
        "negative_aeg": np.nanmean(np.abs(gaps.negative)),
        "ece_worst_group": table["ece"].max(),
        "worst_group_accuracy": 1 - np.nanmax([table["fpr"], table["fnr"]]),
    }.items():
        np.testing.assert_allclose(values[name], expected, rtol=1e-5, err_msg=name)
    np.testing.assert_array_equal(table["positive_aeg"], gaps.positive)


def test_the_report_names_what_does_not_fit():
    scores, label, groups = sample(seed=8, n=10)
    with pytest.raises(ValueError, match=r"outputs\[:, 0\]"):
        fairness_metrics(scores[:, None], label, groups, 0.0)
    with pytest.raises(ValueError, match=r"label \[10\]"):
        fairness_metrics(scores, label[1:], groups, 0.0)
    with pytest.raises(ValueError, match="at least one identity term"):
        per_term(scores, label, groups[:, :0], 0.0)
    with pytest.raises(ValueError, match="weights has shape"):
        per_term(scores, label, groups, 0.0, weights=np.ones(3))
