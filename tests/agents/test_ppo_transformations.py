"""`vmap` over seeds, tasks and hyper-parameters, and seeds sharded over devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from probes import ObservationActionReward, ProbeParams

from modeledit_jax.agents import PPOConfig, train

ENV = ObservationActionReward(continuous=True)
PARAMS = ENV.default_params
CONFIG = PPOConfig(
    num_envs=4, num_steps=4, num_epochs=2, num_minibatches=2, num_updates=5,
    hidden_sizes=(8,), learning_rate=0.01, normalize_observations=True,
)  # fmt: skip
KEYS = jax.random.split(jax.random.key(0), 8)


def assert_close(a, b, atol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol), a, b)


@pytest.fixture(scope="module")
def seeds():
    """Parameters and metrics of eight seeds, [8, ...]."""

    def run(key):
        state, metrics = train(ENV, PARAMS, CONFIG, key)
        return state.params, metrics

    return jax.vmap(run), jax.jit(jax.vmap(run))(KEYS)


@pytest.fixture(scope="module")
def single():
    def run(env_params, config, key):
        state, metrics = train(ENV, env_params, config, key)
        return state.params, metrics

    return jax.jit(run)


def test_vmap_over_seeds_is_a_loop_over_seeds(seeds, single):
    for i in (0, 5):
        assert_close(jax.tree.map(lambda x: x[i], seeds[1]), single(PARAMS, CONFIG, KEYS[i]))  # noqa: B023
    assert np.unique(seeds[1][1]["reward"][:, -1]).size == 8


def test_vmap_over_learning_rates(single):
    rates = jnp.array([0.0, 0.01, 0.1])

    def run(rate):
        return single(PARAMS, CONFIG.replace(learning_rate=rate), KEYS[0])

    params, metrics = jax.jit(jax.vmap(run))(rates)
    assert_close(jax.tree.map(lambda x: x[1], (params, metrics)), single(PARAMS, CONFIG, KEYS[0]))
    np.testing.assert_allclose(metrics["learning_rate"][:, 0], rates)
    np.testing.assert_allclose(metrics["approx_kl"][0], 0, atol=1e-6)
    assert metrics["approx_kl"][2].mean() > metrics["approx_kl"][1].mean() > 1e-6


def test_vmap_over_environment_parameters(single):
    scales = ProbeParams(reward_scale=jnp.array([1.0, 3.0]), max_steps_in_episode=jnp.full(2, 100))
    params, metrics = jax.vmap(single, in_axes=(0, None, None))(scales, CONFIG, KEYS[0])
    for i in range(2):
        one = ProbeParams(reward_scale=scales.reward_scale[i])
        assert_close(
            jax.tree.map(lambda x: x[i], (params, metrics)),  # noqa: B023
            single(one, CONFIG, KEYS[0]),
        )
    assert metrics["value_loss"][1].mean() > 2 * metrics["value_loss"][0].mean()


def test_seeds_sharded_over_devices_give_the_same(seeds):
    run, expected = seeds
    devices = jax.devices()
    assert len(devices) == 8
    sharding = NamedSharding(Mesh(np.array(devices), ("seed",)), PartitionSpec("seed"))
    result = jax.jit(run)(jax.device_put(KEYS, sharding))
    reward = result[1]["reward"]
    assert {shard.data.shape[0] for shard in reward.addressable_shards} == {1}
    assert_close(result, expected, atol=1e-5)
