"""One update and many: metrics, resumption, normalizers, networks for structured observations."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gymnax.environments.classic_control.pendulum import Pendulum

from modeledit_jax.agents import (
    Gaussian,
    PPOConfig,
    default_network,
    evaluate,
    init,
    policy_mode,
    scan_updates,
    train,
    update,
)
from tests.agents.probes import ACTION_REWARD, CLOCK, EchoAction, Probe, Rows

PENDULUM = Pendulum()
PARAMS = PENDULUM.default_params
CONFIG = PPOConfig(
    num_envs=6,
    num_steps=10,
    num_epochs=2,
    num_minibatches=3,
    num_updates=6,
    hidden_sizes=(8, 8),
    schedule="linear",
    learning_rate=1e-3,
    value_clip=0.2,
    normalize_observations=True,
    normalize_rewards=True,
)
METRICS = {
    *("approx_kl", "clip_fraction", "entropy", "episode_return", "episodes"),
    *("explained_variance", "first_ratio_error", "grad_norm", "info/discount", "learning_rate"),
    *("policy_loss", "reward", "value_loss"),
}


def assert_same_bits(a, b):
    def unwrap(x):
        return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    jax.tree.map(lambda x, y: np.testing.assert_array_equal(unwrap(x), unwrap(y)), a, b)


@pytest.fixture(scope="module")
def trained():
    return jax.jit(partial(train, PENDULUM))(PARAMS, CONFIG, jax.random.key(0))


@pytest.mark.slow
def test_metrics_of_every_update(trained):
    state, metrics = trained
    assert set(metrics) == METRICS
    assert all(x.shape == (6,) for x in metrics.values())
    finite = {name for name, x in metrics.items() if np.all(np.isfinite(x))}
    assert finite == METRICS - {"episode_return"}  # no episode of 200 steps ends within 60
    np.testing.assert_allclose(metrics["learning_rate"], 1e-3 * (1 - np.arange(6) / 6), rtol=1e-5)
    assert state.updates == 6
    np.testing.assert_allclose(state.observation_statistics.count, 6 * 60, rtol=1e-5)


@pytest.mark.slow
def test_learning_starts_from_the_policy_that_acted(trained):
    _, metrics = trained
    assert metrics["first_ratio_error"].max() < 1e-6
    assert metrics["approx_kl"].max() > 1e-6  # and moves away from it


@pytest.mark.slow
def test_the_network_sees_normalized_observations(trained):
    state, _ = trained
    network = default_network(PENDULUM.action_space(PARAMS), CONFIG.hidden_sizes)
    observation = jnp.array([0.5, -0.5, 4.0])
    statistics = state.observation_statistics
    normal = (observation - statistics.mean) / jnp.sqrt(statistics.variance)
    assert np.abs(normal - observation).max() > 0.5
    expected = network.apply(state.params, normal)[0].mean
    np.testing.assert_allclose(policy_mode(network, state, observation), expected, rtol=1e-4)


@pytest.mark.slow
def test_updates_play_with_fresh_randomness():
    env = EchoAction()
    config = PPOConfig(num_envs=2, num_steps=2, num_minibatches=1, learning_rate=0.0)
    state = init(env, env.default_params, config, jax.random.key(0))
    _, metrics = scan_updates(env, env.default_params, config, state, 5)
    assert np.unique(metrics["reward"]).size == 5


@pytest.mark.slow
def test_chunks_give_the_bits_of_one_scan(trained):
    state = jax.jit(partial(init, PENDULUM))(PARAMS, CONFIG, jax.random.key(0))
    run = jax.jit(partial(scan_updates, PENDULUM), static_argnums=3)
    parts = []
    for size in (1, 5):
        state, metrics = run(PARAMS, CONFIG, state, size)
        parts.append(metrics)
    assert_same_bits((state, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)), trained)


@pytest.mark.slow
def test_env_batch_size_changes_no_bit(trained):
    config = dataclasses.replace(CONFIG, env_batch_size=4)  # does not divide six environments
    assert_same_bits(jax.jit(partial(train, PENDULUM))(PARAMS, config, jax.random.key(0)), trained)


def test_an_update_returns_a_state_of_the_same_types():
    """Otherwise each Python loop over jitted updates would compile twice."""
    before = jax.eval_shape(partial(init, PENDULUM), PARAMS, CONFIG, jax.random.key(0))
    after, _ = jax.eval_shape(partial(update, PENDULUM), PARAMS, CONFIG, before)
    types = lambda state: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), state)  # noqa: E731
    assert types(before) == types(after)


def run_scaled(reward_scale, **changes):
    """Metrics of a short training whose rewards are multiplied by a number."""
    config = PPOConfig(num_envs=16, num_steps=1, num_updates=5, hidden_sizes=(4,), **changes)
    run = jax.jit(
        jax.vmap(lambda x: train(env, ACTION_REWARD.replace(reward_scale=x), config, key))
    )
    env, key = Probe(continuous=True), jax.random.key(0)
    return run(reward_scale)[1]


@pytest.mark.slow
def test_normalized_rewards_ignore_the_reward_scale():
    metrics = run_scaled(
        jnp.array([1.0, 1000.0]), normalize_rewards=True, normalize_advantage="none"
    )
    np.testing.assert_allclose(metrics["reward"][1], 1000 * metrics["reward"][0], rtol=1e-3)
    np.testing.assert_allclose(*metrics["value_loss"], rtol=1e-2)
    assert metrics["approx_kl"].min() > 1e-7


@pytest.mark.slow
def test_batch_normalized_advantages_ignore_the_reward_scale():
    metrics = run_scaled(jnp.array([1.0, 50.0]), normalize_advantage="batch", value_coefficient=0.0)
    # The observation is zero and the critic does not learn: all values are zero.
    np.testing.assert_allclose(*metrics["approx_kl"], rtol=1e-3, atol=1e-7)
    assert metrics["approx_kl"].min() > 1e-7


@pytest.mark.slow
def test_with_a_constant_observation_ppo_is_a_gaussian_search():
    """Only mean and spread may move, from where they are told to start."""
    env = EchoAction()
    start = jnp.array([-1.0])
    config = PPOConfig(
        num_envs=20, num_steps=1, num_minibatches=1, num_updates=30, hidden_sizes=(),
        action_learning_rate=0.05, initial_std=0.3,
    )  # fmt: skip
    network = default_network(env.action_space(None), ())
    first = init(env, env.default_params, config, jax.random.key(0), start_action=start)
    np.testing.assert_array_equal(policy_mode(network, first, jnp.zeros(1)), start)
    np.testing.assert_allclose(first.params["params"]["head"]["log_std"], np.log(0.3), rtol=1e-6)

    run = jax.jit(partial(train, env, start_action=start))
    state, metrics = run(env.default_params, config, jax.random.key(0))
    head = state.params["params"]["head"]
    np.testing.assert_array_equal(policy_mode(network, state, jnp.zeros(1)), head["action_mean"])
    assert head["action_mean"] > 0 and metrics["reward"][-1] > metrics["reward"][0] + 1


def test_evaluate_plays_whole_episodes():
    env, params = Probe(), CLOCK
    config = PPOConfig(num_envs=2, num_steps=4, num_minibatches=1, hidden_sizes=(4,))
    state = init(env, params, config, jax.random.key(0))
    network = default_network(env.action_space(params), (4,))
    returns, lengths = evaluate(env, params, network, state, jax.random.key(1), 3)
    np.testing.assert_array_equal(returns, [0 + 1 + 2] * 3)
    np.testing.assert_array_equal(lengths, [3] * 3)


def test_evaluate_takes_the_mode_or_samples():
    env = EchoAction()
    config = PPOConfig(num_envs=2, num_steps=1, num_minibatches=1, hidden_sizes=())
    state = init(env, env.default_params, config, jax.random.key(0), start_action=jnp.full(1, 0.5))
    play = partial(
        evaluate, env, env.default_params, default_network(env.action_space(None), ()), state,
        jax.random.key(1), 5,
    )  # fmt: skip
    np.testing.assert_array_equal(play()[0], [0.5] * 5)
    assert np.unique(play(deterministic=False)[0]).size == 5


class _RowPolicy(nn.Module):
    """The same map for every row of the observation, so it fits any number of rows."""

    @nn.compact
    def __call__(self, observation):
        rows = observation["rows"]
        log_std = self.param("log_std", nn.initializers.zeros, ())
        mean = nn.Dense(1)(rows)[:, 0]
        value = nn.Dense(1)(nn.tanh(nn.Dense(8)(rows)).mean(0))[0]
        return Gaussian(mean, jnp.broadcast_to(log_std, mean.shape)), value


@pytest.mark.slow
def test_network_for_structured_observations():
    env, network = Rows(), _RowPolicy()
    config = PPOConfig(
        num_envs=32, num_steps=2, num_minibatches=2, num_updates=150, learning_rate=0.01,
        initial_std=0.5, schedule="linear",
    )  # fmt: skip
    run = jax.jit(partial(train, env, network=network))
    state, metrics = run(env.default_params, config, jax.random.key(0))
    assert metrics["reward"][-10:].mean() > 0.8  # at best 1
    # What it learnt on four rows it does on six.
    rows = jnp.array([[0.5, 0.4], [0.3, 0.5], [0.0, 0.1], [-0.1, 0.1], [-0.3, -0.2], [-0.5, -0.4]])
    np.testing.assert_allclose(policy_mode(network, state, {"rows": rows}), rows[:, 0], atol=0.15)


def test_start_action_needs_a_parameter_to_take_it():
    env = Probe()
    with pytest.raises(ValueError, match="action_mean"):
        init(env, env.default_params, PPOConfig(), jax.random.key(0), start_action=jnp.zeros(1))
