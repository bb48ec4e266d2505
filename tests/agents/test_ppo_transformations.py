"""`vmap` over seeds, tasks and hyper-parameters, and its results spread over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from modeledit_jax.agents import PPOConfig, train
from tests.agents.probes import OBSERVATION_ACTION_REWARD, Probe

ENV = Probe(continuous=True)
CONFIG = PPOConfig(
    num_envs=4,
    num_steps=4,
    num_epochs=2,
    num_minibatches=2,
    num_updates=5,
    hidden_sizes=(8,),
    normalize_observations=True,
)
KEYS = jax.random.split(jax.random.key(0), 8)
# 0–3: seeds; 3–5: learning rates of one seed; 5–7: environments of that seed
CASES = (
    KEYS[jnp.array([0, 1, 2, 3, 3, 3, 3, 3])],
    jnp.array([0.01, 0.01, 0.01, 0.01, 0.0, 0.1, 0.1, 0.1]),
    jnp.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 9.0]),
)


def run(key, learning_rate, reward_scale):
    """Trained parameters and metrics."""
    env_params = OBSERVATION_ACTION_REWARD.replace(reward_scale=reward_scale)
    config = CONFIG.replace(learning_rate=learning_rate)
    state, metrics = train(ENV, env_params, config, key)
    return state.params, metrics


def assert_close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


@pytest.fixture(scope="module")
def batched():
    return jax.jit(jax.vmap(run))(*CASES)


@pytest.mark.slow
def test_vmap_is_a_loop(batched):
    single = jax.jit(run)
    for i in (0, 3, 4, 5, 7):
        assert_close(jax.tree.map(lambda x, i=i: x[i], batched), single(*(x[i] for x in CASES)))


@pytest.mark.slow
def test_seeds_differ(batched):
    assert np.unique(batched[1]["reward"][:4, -1]).size == 4


@pytest.mark.slow
def test_learning_rates_count(batched):
    _, metrics = batched
    np.testing.assert_allclose(metrics["learning_rate"][:, 0], CASES[1])
    fast, slow, none = (metrics["approx_kl"][i].mean() for i in (5, 3, 4))
    np.testing.assert_allclose(none, 0, atol=1e-6)
    assert fast > slow > 1e-6


@pytest.mark.slow
def test_environments_count(batched):
    loss = batched[1]["value_loss"].mean(axis=1)
    assert loss[7] > 2 * loss[6] > 4 * loss[5]


@pytest.mark.slow
def test_sharding_over_devices_changes_nothing(batched):
    devices = jax.devices()
    assert len(devices) == 8
    sharding = NamedSharding(Mesh(np.array(devices), ("seed",)), PartitionSpec("seed"))
    result = jax.jit(jax.vmap(run))(*jax.device_put(CASES, sharding))
    shards = result[1]["reward"].addressable_shards
    assert {shard.device for shard in shards} == set(devices)
    assert all(shard.data.shape == (1, CONFIG.num_updates) for shard in shards)
    assert_close(result, batched)
