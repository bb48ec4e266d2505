"""PPO on probe environments: each must be solved to 0.1, in values and in actions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.agents import PPOConfig, default_network, policy_mode, train
from modeledit_jax.agents.ppo import actor_critic
from tests.agents import probes

GAMMA = 0.8
CONFIG = PPOConfig(
    learning_rate=0.01,
    gamma=GAMMA,
    num_envs=32,
    num_steps=4,
    num_minibatches=2,
    num_updates=150,
    hidden_sizes=(16,),
    initial_std=0.5,
    schedule="linear",
)
# Parameters, λ, {observation: value}, {observation: discrete action}, {…: continuous action}
PROBES = {
    "constant reward": (probes.CONSTANT_REWARD, 0.95, {0: 1}, {}, {}),
    "observation value": (probes.OBSERVATION_VALUE, 0.95, {-1: -1, 1: 1}, {}, {}),
    "discounted reward": (probes.DISCOUNTED_REWARD, 0.95, {0: GAMMA, 1: 1}, {}, {}),
    "action reward": (probes.ACTION_REWARD, 0.95, {0: 1}, {0: 1}, {0: 0.5}),
    "observation and action": (
        *(probes.OBSERVATION_ACTION_REWARD, 0.95),
        *({-1: 1, 1: 1}, {-1: 0, 1: 1}, {-1: -1, 1: 1}),
    ),
    # Reward 1 forever is worth 1 / (1 − γ) = 5, although no episode is played for more than
    # three steps. Without a bootstrap at the limit the value is at most 1 + γ + γ² = 2.44.
    "time limit": (probes.ENDLESS, 0.95, {0: 1 / (1 - GAMMA)}, {}, {}),
    "time limit, one-step targets": (probes.ENDLESS, 0.0, {0: 1 / (1 - GAMMA)}, {}, {}),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(False, marks=pytest.mark.slow), True],
    ids=["discrete", "continuous"],
)
def solved(request):
    """Values and actions at the observations −1, 0 and 1, for every probe."""
    env = probes.Probe(continuous=request.param)
    params, gae_lambda = zip(*((x[0], x[1]) for x in PROBES.values()), strict=True)
    params = jax.tree.map(lambda *x: jnp.array(x), *params)
    network = default_network(env.action_space(None), CONFIG.hidden_sizes)

    @jax.jit
    @jax.vmap
    def solve(env_params, gae_lambda):
        config = CONFIG.replace(gae_lambda=gae_lambda)
        state, _ = train(env, env_params, config, jax.random.key(0))
        observations = jnp.array([[-1.0], [0.0], [1.0]])
        values = jax.vmap(lambda x: actor_critic(network, state, x)[1])(observations)
        return values, jax.vmap(partial(policy_mode, network, state))(observations)

    values, actions = map(np.asarray, solve(params, jnp.array(gae_lambda)))
    return request.param, dict(zip(PROBES, zip(values, actions, strict=True), strict=True))


@pytest.mark.parametrize("probe", PROBES)
def test_probe_is_solved(solved, probe):
    continuous, results = solved
    values, actions = results[probe]
    _, _, expected_values, *expected_actions = PROBES[probe]
    for observation, expected in expected_values.items():
        np.testing.assert_allclose(values[observation + 1], expected, atol=0.1)
    for observation, expected in expected_actions[continuous].items():
        np.testing.assert_allclose(np.ravel(actions[observation + 1]), expected, atol=0.1)
