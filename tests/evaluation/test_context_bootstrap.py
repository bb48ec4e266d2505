"""Statistics of suites by hand and against the functions on one set; draws that go together."""

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.evaluation.context_bootstrap import (
    STATISTICS,
    BlockScores,
    changes,
    resample,
)
from modeledit_jax.evaluation.fairness import (
    counterfactual_dispersion,
    equality_differences,
    error_rates,
)

RNG = np.random.default_rng(0)
LABEL = np.array([0, 0, 0, 1, 1, 0])


def block(scores, columns=None, threshold=0.1, variance=2.0):
    columns = np.ones(scores.shape[1], bool) if columns is None else columns
    return BlockScores(scores, LABEL, threshold, variance, columns)


def once(one):
    return [np.ones((1, int((one.label == label).sum())), int) for label in (0, 1)]


def test_the_sample_itself_equals_the_metrics_of_the_set():
    scores = RNG.normal(size=(6, 4)).astype(np.float32)
    found = dict(zip(STATISTICS, block(scores).statistics(once(block(scores)))[0], strict=True))
    flat, label = jnp.asarray(scores.reshape(-1)), jnp.asarray(np.repeat(LABEL, 4))
    groups = jnp.asarray(np.tile(np.eye(4, dtype=np.float32), (6, 1)))
    rates = error_rates(flat, label, groups, 0.1)
    differences = equality_differences(rates)
    spread = counterfactual_dispersion(flat, jnp.arange(24).reshape(6, 4), jnp.array([-2.0, 2.0]))
    expected = (2 * spread, differences.fped, differences.fned, rates.fpr, rates.fnr)
    np.testing.assert_allclose([found[name] for name in STATISTICS], expected, rtol=1e-5)


def test_columns_are_those_of_the_differences_alone():
    scores = RNG.normal(size=(6, 4))
    columns = np.array([True, False, True, False])
    whole, part = block(scores), block(scores, columns)
    found, all_of = (x.statistics(once(x))[0] for x in (part, whole))
    np.testing.assert_allclose(found[3:], all_of[3:])
    np.testing.assert_allclose(found[0], scores[:, columns].var(axis=1).mean() / 2.0)
    rates = (scores[LABEL == 0] >= 0.1).mean(axis=0)
    np.testing.assert_allclose(found[1], np.abs(rates - rates.mean())[columns].mean())


def test_a_suite_of_one_label_has_no_rate_of_the_other():
    one = BlockScores(RNG.normal(size=(3, 2)), np.zeros(3, int), 0.0, 1.0, np.ones(2, bool))
    found = resample([[one]], reps=20)[0]
    assert np.isnan(found[:, [2, 4]]).all() and np.isfinite(found[:, [0, 1, 3]]).all()


def test_draws_are_shared_by_classifiers_and_folds():
    scores = [RNG.normal(size=(6, 4)) for _ in range(2)]
    apart = resample([[block(s)] for s in scores], reps=30)
    doubled = resample([[block(np.sqrt(2) * s)] for s in scores], reps=30)
    np.testing.assert_allclose(doubled[..., 0], 2 * apart[..., 0])
    folds = resample([[block(scores[0]), block(2 * scores[0])]], reps=30)
    np.testing.assert_allclose(folds[0, :, 0], 2.5 * apart[0, :, 0])
    change = changes(apart, doubled)["dispersion"]
    np.testing.assert_allclose(change.values, 1.0)
    none = change.less(change).interval()
    assert (none.point, none.low, none.high) == (0, 0, 0)


def test_networks_are_drawn_anew():
    """One network halves its dispersion and the other does not change: intervals say so."""
    before = np.ones((2, 2001, 5))
    after = before.copy()
    after[0] *= 0.5
    found = changes(before, after)
    interval = found["dispersion"].interval()
    assert interval.point == -0.25 and (interval.low, interval.high) == (-0.5, 0.0)
    assert found["fpr"].interval().point == -0.25  # a difference, not a share
    after[:, :, 1] = before[:, :, 1] = 0.0
    assert np.isnan(changes(before, after)["fped"].interval().point)
    with pytest.raises(ValueError, match="before and"):
        changes(before, after[:1])
