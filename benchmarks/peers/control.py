"""PPO on CartPole, beside rejax's PPO with the same sizes: steps of the environment per second."""

from functools import partial
from typing import Any

import gymnax
import jax
import rejax
from gymnax.environments.classic_control.cartpole import CartPole

from benchmarks.timing import Contestant
from modeledit_jax.agents import ppo
from modeledit_jax.agents.config import PPOConfig

ENVIRONMENT = "CartPole-v1"
SIZES: dict[str, Any] = {"num_steps": 32, "num_epochs": 4, "num_minibatches": 4}
"""Of both: steps per environment and update, passes over a rollout, gradient steps of a pass."""


class _FiveValues(CartPole):
    """The environment of gymnax 1 with the ``step`` that rejax expects, of gymnax before it."""

    def step(self, *arguments: Any, **named: Any) -> Any:
        """``(observation, state, reward, done, info)``."""
        observation, state, reward, terminated, truncated, info = super().step(*arguments, **named)
        return observation, state, reward, terminated | truncated, info


def own_ppo(environments: int, updates: int) -> Contestant:
    """This project's PPO."""
    env, params = gymnax.make(ENVIRONMENT)
    config = PPOConfig(num_envs=environments, num_updates=updates, **SIZES)
    init = jax.jit(lambda key: ppo.init(env, params, config, key))
    train = jax.jit(lambda state: ppo.scan_updates(env, params, config, state, updates))
    state = init(jax.random.key(0))
    return Contestant(partial(train, state), work=updates * config.batch_size)


def rejax_ppo(environments: int, updates: int) -> Contestant:
    """rejax's PPO, without its evaluations."""
    steps = updates * environments * SIZES["num_steps"]
    env = _FiveValues()
    agent = rejax.PPO.create(
        env=env,
        env_params=env.default_params,
        num_envs=environments,
        **SIZES,
        total_timesteps=steps,
        max_grad_norm=0.5,
        agent_kwargs={"activation": "tanh"},
    )
    state = jax.jit(agent.init_state)(jax.random.key(0))

    @jax.jit
    def train(state: object) -> object:
        return jax.lax.scan(lambda s, _: (agent.train_iteration(s), None), state, None, updates)[0]

    return Contestant(partial(train, state), work=steps)
