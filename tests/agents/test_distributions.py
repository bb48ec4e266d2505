import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from modeledit_jax.agents.distributions import Categorical, Gaussian, Policy

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(), (5,), (3, 2)])
def test_gaussian_density_and_entropy_agree_with_scipy(shape):
    mean, log_std, action = (RNG.normal(size=shape).astype(np.float32) for _ in range(3))
    reference = stats.norm(mean, np.exp(log_std))
    policy = Gaussian(jnp.asarray(mean), jnp.asarray(log_std))
    np.testing.assert_allclose(
        policy.log_prob(jnp.asarray(action)), reference.logpdf(action).sum(), rtol=1e-5
    )
    np.testing.assert_allclose(policy.entropy(), np.sum(reference.entropy()), rtol=1e-5)
    np.testing.assert_array_equal(policy.mode(), mean)


def test_gaussian_samples_follow_the_distribution():
    policy = Gaussian(jnp.array([1.0, -2.0]), jnp.log(jnp.array([0.5, 3.0])))
    samples = jax.vmap(policy.sample)(jax.random.split(jax.random.key(0), 5000))
    assert samples.shape == (5000, 2)
    for i, (mean, std) in enumerate([(1.0, 0.5), (-2.0, 3.0)]):
        assert stats.kstest(np.asarray(samples[:, i]), stats.norm(mean, std).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(samples.T)[0, 1]) < 0.05


def test_categorical_agrees_with_scipy():
    logits = RNG.normal(size=4).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum()
    policy = Categorical(jnp.asarray(logits))
    for action in range(4):
        np.testing.assert_allclose(policy.log_prob(jnp.int32(action)), np.log(p[action]), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), stats.entropy(p), rtol=1e-5)
    assert policy.mode() == logits.argmax() and policy.mode().dtype == jnp.int32

    samples = jax.vmap(policy.sample)(jax.random.split(jax.random.key(1), 5000))
    assert samples.dtype == jnp.int32
    counts = np.bincount(np.asarray(samples), minlength=4)
    assert stats.chisquare(counts, 5000 * p / p.sum()).pvalue > 1e-3


def test_policies_survive_vmap_and_scan():
    means = jnp.arange(6.0).reshape(3, 2)
    policies = jax.vmap(lambda mean: Gaussian(mean, jnp.zeros(2)))(means)
    log_prob = jax.vmap(lambda policy, action: policy.log_prob(action))(policies, means)
    np.testing.assert_allclose(log_prob, np.full(3, 2 * stats.norm.logpdf(0)), rtol=1e-6)

    _, stacked = jax.lax.scan(lambda carry, x: (carry, Categorical(x)), None, means)
    np.testing.assert_array_equal(jax.vmap(Categorical.mode)(stacked), [1, 1, 1])


def test_both_are_policies():
    assert isinstance(Gaussian(jnp.zeros(1), jnp.zeros(1)), Policy)
    assert isinstance(Categorical(jnp.zeros(2)), Policy)
