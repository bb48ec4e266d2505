"""Environments whose steps are all taken in one state: less work, the same learning."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.wrappers import LogWrapper

from modeledit_jax.agents import PPOConfig, init, ppo, scan_updates
from modeledit_jax.agents.loss import Batch, loss
from modeledit_jax.agents.networks import ActorCritic, GaussianHead
from modeledit_jax.agents.normalization import RunningStatistics
from modeledit_jax.agents.rollout import Transition, one_state, reset
from tests.agents.probes import ACTION_REWARD, Probe

KEY = jax.random.key(0)
CONFIG = PPOConfig(
    num_envs=6,
    num_steps=2,
    num_epochs=2,
    num_minibatches=3,
    num_updates=4,
    hidden_sizes=(4,),
    learning_rate=0.01,
    value_clip=0.2,
    normalize_rewards=True,
)
# As in editing: a single minibatch, whose order does not count.
EDITING = dataclasses.replace(
    CONFIG, num_steps=1, num_epochs=1, num_minibatches=1, search_optimizer="natural"
)


class Still(Probe):
    """One step from one start; what is observed is not zero, so that it counts."""

    def __init__(self):
        super().__init__(continuous=True)

    def observe(self, key, state, action, params):
        return jnp.array([0.7, -1.2]) + jnp.asarray(state.time, jnp.float32)

    def reset_env(self, key, params):
        return super().reset_env(jax.random.key(3), params)


class OneState(Still):
    one_state = True


class Random(Probe):
    one_state = True


def learn(env, config):
    state = init(env, ACTION_REWARD, config, KEY)
    return jax.jit(partial(scan_updates, env), static_argnums=3)(ACTION_REWARD, config, state, 4)


@pytest.mark.parametrize(
    "config",
    [
        EDITING,
        pytest.param(CONFIG, marks=pytest.mark.slow),
        pytest.param(
            dataclasses.replace(CONFIG, normalize_observations=True, normalize_advantage="batch"),
            marks=pytest.mark.slow,
        ),
        pytest.param(dataclasses.replace(CONFIG, env_batch_size=4), marks=pytest.mark.slow),
    ],
    ids=["editing", "minibatches", "normalized", "in-batches"],
)
def test_one_state_learns_what_every_environment_apart_would(config):
    (state, metrics), (expected, other) = learn(OneState(), config), learn(Still(), config)
    assert one_state(OneState()) and not one_state(Still())
    close = partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-5)
    for name in ("params", "optimizer_state", "observation_statistics", "reward_scale", "updates"):
        jax.tree.map(close, getattr(state, name), getattr(expected, name))
    assert set(metrics) == set(other)
    for name in metrics:
        close(metrics[name], other[name], err_msg=name)
    assert np.array_equal(jax.random.key_data(state.key), jax.random.key_data(expected.key))
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), state.params, start(config))
    assert min(jax.tree.leaves(moved)) > 1e-4  # or there would be nothing to compare


def start(config):
    return init(OneState(), ACTION_REWARD, config, KEY).params


def test_the_network_is_evaluated_once():
    network, batch = ActorCritic(GaussianHead((2,)), (3,)), 12

    def products(one, observation):
        samples = jnp.zeros(batch)
        actions = jnp.zeros((batch, 2))
        batched = Batch(observation, actions, samples, samples, samples, samples, one)
        jaxpr = jax.make_jaxpr(partial(loss, network, CONFIG))(params, batched)
        text = str(jaxpr).splitlines()
        return [line.split("=")[0] for line in text if "dot_general" in line]

    params = network.init(KEY, jnp.zeros(5))
    assert all("[12," in line for line in products(False, jnp.zeros((batch, 5))))
    once = products(True, jnp.zeros(5))
    assert len(once) == 4 and not any("12" in line for line in once)


def test_a_wrapper_does_not_hand_on_the_promise():
    """It may keep a state of its own from step to step, as `LogWrapper` does."""
    wrapped = LogWrapper(OneState())
    assert wrapped.one_state and not one_state(wrapped)


def test_a_random_start_is_refused_where_one_state_is_promised():
    with pytest.raises(ValueError, match=r"Random\.one_state is True, but reset draws"):
        reset(Random(), ACTION_REWARD, 3, KEY)


def test_other_mistakes_of_a_reset_are_told_as_they_are():
    class Broken(OneState):
        def reset_env(self, key, params):
            raise ValueError("no such start")

    with pytest.raises(ValueError, match=r"^no such start"):
        reset(Broken(), ACTION_REWARD, 3, KEY)


@pytest.mark.parametrize("one", [True, False])
def test_samples_are_taken_with_their_observations(one):
    numbers = jnp.arange(12.0)
    seen = jnp.array([0.5, 0.25]) if one else jnp.stack([numbers, -numbers], axis=1)
    batch = Batch(seen, numbers[:, None], *(k * numbers for k in (1, 2, 3, 4)), one)
    taken = batch.take(jnp.array([3, 0, 7]))
    expected = np.array([3.0, 0.0, 7.0])
    np.testing.assert_array_equal(taken.action[:, 0], expected)
    fields = taken.log_prob, taken.value, taken.advantage, taken.value_target
    for factor, values in enumerate(fields, 1):
        np.testing.assert_array_equal(values, factor * expected)
    other = np.stack([expected, -expected], axis=1)
    np.testing.assert_array_equal(taken.observation, seen if one else other)


@pytest.mark.parametrize("one", [True, False])
def test_values_are_to_be_the_rewards_of_episodes_of_one_step(one):
    """Whatever the values are now: the advantage is the difference, and every sample is counted."""
    config = dataclasses.replace(CONFIG, normalize_advantage="minibatch", num_steps=2, num_envs=3)
    shape, rng = (2, 3), np.random.default_rng(0)
    reward, value, next_value = map(jnp.float32, rng.normal(size=(3, *shape)))
    observation = jnp.array([0.7, -1.2]) if one else jnp.float32(rng.normal(size=(*shape, 2)))
    ends = jnp.ones(shape, bool), jnp.zeros(shape, bool)
    steps = (reward[..., None], 0 * reward, value, next_value, reward, *ends, one)
    trajectory = Transition(observation, *steps)
    empty = RunningStatistics.create(jnp.zeros(2))
    state = ppo.PPOState(*[None] * 7)
    batch = ppo._batch(config, state, trajectory)
    np.testing.assert_allclose(batch.value_target, reward.ravel(), rtol=1e-5)
    np.testing.assert_allclose(batch.advantage, (reward - value).ravel(), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(batch.action[:, 0], reward.ravel())
    found = ppo._observe(config, empty, trajectory)
    every = np.broadcast_to(observation, (*shape, 2)).reshape(-1, 2)
    expected = empty.update(jnp.asarray(every))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), found, expected)
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-3)
