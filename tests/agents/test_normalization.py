import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.agents.normalization import RewardScale, RunningStatistics


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.sampled_from([1, 7, 40]), min_size=1, max_size=4),
)
def test_statistics_are_those_of_all_samples(seed, sizes):
    rng = np.random.default_rng(seed)
    batches = [{"a": rng.normal(3, 2, (n, 2)), "b": rng.integers(0, 9, n)} for n in sizes]
    statistics = RunningStatistics.create({"a": jnp.zeros(2), "b": jnp.int32(0)})
    for batch in batches:
        statistics = statistics.update(
            {"a": jnp.asarray(batch["a"], jnp.float32), "b": jnp.asarray(batch["b"], jnp.int32)}
        )
    for name in ("a", "b"):
        samples = np.concatenate([batch[name] for batch in batches])
        # The prior counts 1e-4 samples: its share of the variance is 1e-4 · mean² at most.
        np.testing.assert_allclose(statistics.mean[name], samples.mean(0), rtol=3e-4, atol=1e-3)
        np.testing.assert_allclose(statistics.variance[name], samples.var(0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(statistics.count, sum(sizes), rtol=1e-3)


def test_normalized_samples_are_standard_and_clipped():
    samples = np.random.default_rng(0).normal(5, 3, (500, 2)).astype(np.float32)
    samples[:, 1] = 7.0  # never varies
    statistics = RunningStatistics.create(jnp.zeros(2)).update(jnp.asarray(samples))
    normal = np.asarray(statistics.normalize(jnp.asarray(samples)))
    np.testing.assert_allclose(normal[:, 0].mean(), 0, atol=1e-3)
    np.testing.assert_allclose(normal[:, 0].std(), 1, rtol=1e-3)
    assert np.abs(normal[:, 1]).max() < 1
    assert statistics.normalize(jnp.array([5.0, 100.0]))[1] == 10.0


def test_new_statistics_change_nothing():
    sample = jnp.array([-1.5, 0.0, 2.0])
    np.testing.assert_allclose(RunningStatistics.create(sample).normalize(sample), sample)


def test_reward_scale_is_the_std_of_the_discounted_return():
    rng = np.random.default_rng(1)
    reward = rng.normal(size=(2, 30, 4)).astype(np.float32)  # two rollouts
    done = rng.random((2, 30, 4)) < 0.2
    returns, running = [], np.zeros(4)
    for r, d in zip(reward.reshape(60, 4), done.reshape(60, 4), strict=True):
        running = 0.9 * running + r
        returns.append(running.copy())
        running[d] = 0.0

    scale = RewardScale.create(4)
    for i in range(2):
        scale = scale.update(jnp.asarray(reward[i]), jnp.asarray(done[i]), 0.9)
    np.testing.assert_allclose(scale.discounted_return, running, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scale.scale(jnp.float32(2.0)), 2.0 / np.std(returns), rtol=1e-3)
