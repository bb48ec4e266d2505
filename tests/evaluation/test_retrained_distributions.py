"""Distributions of margins over networks: by NumPy, and where the answer is known."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from modeledit_jax.evaluation.retrained_distributions import klom, likelihood_ratio_auc

ONES = jnp.ones(4)


def test_klom_is_that_of_numpys_histograms(rng):
    a, b = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) + 1
    a[0, 0] = 300.0  # clipped
    weights = np.array([1.0, 0.0, 2.0, 1.0])
    expected = []
    for i in range(4):
        own, other = np.clip(a[:, i], -100, 100), np.clip(b[:, i], -100, 100)
        span = (min(own.min(), other.min()), max(own.max(), other.max()))
        p, q = (np.histogram(v, bins=20, range=span)[0] / len(v) + 1e-5 for v in (own, other))
        expected.append(scipy.stats.entropy(p, q))
    found = klom(jnp.asarray(a), jnp.asarray(b), jnp.asarray(weights))
    np.testing.assert_allclose(found, np.average(expected, weights=weights), rtol=1e-3)


def test_klom_of_equal_and_of_disjoint_margins(rng):
    a = jnp.asarray(rng.normal(size=(10, 4)))
    assert klom(a, a, ONES) == 0.0
    assert klom(a, a + 50.0, ONES) > 9.0


def _auc_by_hand(a, b):
    norm = scipy.stats.norm

    def ratio(x, own, other):  # own without x
        return norm(own.mean(), own.std()).logpdf(x) - norm(other.mean(), other.std()).logpdf(x)

    of_a = [ratio(x, np.delete(a, i), b) for i, x in enumerate(a)]
    of_b = [-ratio(x, np.delete(b, i), a) for i, x in enumerate(b)]
    return roc_auc_score([1] * len(a) + [0] * len(b), of_a + of_b)


@pytest.mark.slow
def test_the_auc_of_likelihood_ratios_by_scipy(rng):
    a, b = rng.normal(size=(6, 4)), 1.5 * rng.normal(size=(5, 4)) + 0.5
    expected = np.mean([_auc_by_hand(a[:, i], b[:, i]) for i in range(4)])
    found = likelihood_ratio_auc(jnp.asarray(a), jnp.asarray(b), ONES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_networks_of_one_kind_cannot_be_told_apart_and_others_can(rng):
    a, b = rng.normal(size=(2, 12, 200))
    ones = jnp.ones(200)
    alike = likelihood_ratio_auc(jnp.asarray(a), jnp.asarray(b), ones)
    apart = likelihood_ratio_auc(jnp.asarray(a + 8.0), jnp.asarray(b), ones)
    assert 0.3 < alike < 0.6 and apart > 0.99


def test_a_spread_needs_three_networks():
    with pytest.raises(ValueError, match="2 unlearned and 3 retrained networks: a spread needs"):
        likelihood_ratio_auc(jnp.zeros((2, 4)), jnp.zeros((3, 4)), ONES)
