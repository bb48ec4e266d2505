"""PPO on probe environments: each must be solved to 0.1, in values and in actions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import (
    ActionReward,
    ConstantReward,
    DiscountedReward,
    Endless,
    ObservationActionReward,
    ObservationValue,
    ProbeParams,
)

from modeledit_jax.agents import PPOConfig, default_network, policy_mode, train
from modeledit_jax.agents.ppo import actor_critic

CONFIG = PPOConfig(
    learning_rate=0.01,
    gamma=0.8,
    num_envs=32,
    num_steps=4,
    num_minibatches=2,
    num_updates=150,
    hidden_sizes=(16,),
    initial_std=0.5,
    schedule="linear",
)


def solve(env, params, **changes):
    config = CONFIG.replace(**changes)
    state, _ = jax.jit(partial(train, env))(params, config, jax.random.key(0))
    network = default_network(env.action_space(params), config.hidden_sizes)
    value = lambda x: actor_critic(network, state, jnp.array([x]))[1]  # noqa: E731
    action = lambda x: policy_mode(network, state, jnp.array([x]))  # noqa: E731
    return value, action


@pytest.mark.parametrize("continuous", [False, True], ids=["discrete", "continuous"])
@pytest.mark.parametrize(
    ("probe", "values", "discrete_actions", "continuous_actions"),
    [
        (ConstantReward, {0.0: 1.0}, {}, {}),
        (ObservationValue, {-1.0: -1.0, 1.0: 1.0}, {}, {}),
        (DiscountedReward, {0.0: 0.8, 1.0: 1.0}, {}, {}),
        (ActionReward, {0.0: 1.0}, {0.0: 1}, {0.0: 0.5}),
        (ObservationActionReward, {-1.0: 1.0, 1.0: 1.0}, {-1.0: 0, 1.0: 1}, {-1.0: -1, 1.0: 1}),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else "",
)
def test_probe_is_solved(probe, values, discrete_actions, continuous_actions, continuous):
    env = probe(continuous)
    value, action = solve(env, env.default_params)
    for observation, expected in values.items():
        np.testing.assert_allclose(value(observation), expected, atol=0.1)
    for observation, expected in (continuous_actions if continuous else discrete_actions).items():
        np.testing.assert_allclose(np.ravel(action(observation)), expected, atol=0.1)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95])
def test_a_time_limit_is_not_the_end_of_the_world(gae_lambda):
    """Reward 1 forever is worth 1 / (1 − γ) = 5, although no episode lasts longer than 3 steps.

    Without bootstrapping at the limit the value would lie between 1 and 1 + γ + γ² = 2.44.
    """
    env = Endless()
    value, _ = solve(env, ProbeParams(max_steps_in_episode=3), gae_lambda=gae_lambda)
    np.testing.assert_allclose(value(0.0), 5.0, atol=0.1)
