"""PPO on two classic tasks, against the returns of PureJaxRL with the same settings.

The reference numbers were measured by running PureJaxRL (commit 31756b1) unchanged on gymnax 1.0.1,
through gymnax's `LegacyStepAPIWrapper`, with 8 seeds per task on two CPU cores. A seed's return is
the mean over all training episodes that end in the last tenth of the updates; ± is the standard
deviation over seeds.

===========  ==================  ================  ==============
task         settings            PureJaxRL         ours, 8 seeds
===========  ==================  ================  ==============
CartPole-v1  of its ``ppo.py``   488.4 ± 10.9      500.0 ± 0.0
Pendulum-v1  see `PENDULUM`      −197.7 ± 21.5     −192.3 ± 26.1
===========  ==================  ================  ==============

We differ by bootstrapping at time limits, which PureJaxRL treats as terminations, and by
initialising without orthogonal matrices.
"""

from functools import partial

import gymnax
import jax
import numpy as np
import pytest

from modeledit_jax.agents import PPOConfig, train

CARTPOLE = PPOConfig(  # 500,000 steps
    num_envs=4,
    num_steps=128,
    num_updates=976,
    num_epochs=4,
    num_minibatches=4,
    hidden_sizes=(64, 64),
    learning_rate=2.5e-4,
    schedule="linear",
    gamma=0.99,
    gae_lambda=0.95,
    clip_epsilon=0.2,
    value_clip=0.2,
    value_coefficient=0.5,
    entropy_coefficient=0.01,
    max_grad_norm=0.5,
)
# Those of `ppo_continuous_action.py`, for 320,000 steps instead of fifty million: 64 environments
# instead of 2048 and, as the rollouts are that much smaller, 8 minibatches instead of 32.
PENDULUM = PPOConfig(
    num_envs=64,
    num_steps=10,
    num_updates=500,
    num_epochs=4,
    num_minibatches=8,
    hidden_sizes=(256, 256),
    learning_rate=3e-4,
    gamma=0.99,
    gae_lambda=0.95,
    clip_epsilon=0.2,
    value_clip=0.2,
    value_coefficient=0.5,
    max_grad_norm=0.5,
    normalize_observations=True,
    normalize_rewards=True,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "reference", "spread"),
    [("CartPole-v1", CARTPOLE, 488.4, 10.9), ("Pendulum-v1", PENDULUM, -197.7, 21.5)],
)
def test_returns_reach_those_of_purejaxrl(name, config, reference, spread):
    env, env_params = gymnax.make(name)
    keys = jax.random.split(jax.random.key(0), 4)
    seeds = jax.jit(jax.vmap(partial(train, env, env_params, config)))
    _, metrics = seeds(keys)
    last = slice(-(config.num_updates // 10), None)
    episodes = np.asarray(metrics["episodes"])[:, last]
    totals = np.nan_to_num(metrics["episode_return"])[:, last] * episodes
    returns = totals.sum(axis=1) / episodes.sum(axis=1)
    assert returns.mean() > reference - spread
