"""PPO for one policy on many tasks: parameters of the environment are drawn anew for every update.

`modeledit_jax.agents.ppo` trains a policy on the environment it is given. Here every update draws
``K`` tasks. In every state of a task ``E`` actions are tried and compared with one another; then
the most probable one is taken, as it will be when the policy is used, and leads to the next state.

What is learnt is which action was good in a state, not which state or task was lucky: the group is
the baseline and there is no value function (Shao et al. 2024, arXiv 2402.03300). The price is that
an action is judged by its own reward alone, not by what it leads to. That suits tasks whose rewards
already say what is to be kept, such as requests one after another, where each counts all earlier.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.distributions import Policy
from modeledit_jax.agents.loss import clipped_surrogate
from modeledit_jax.agents.networks import with_search_distribution
from modeledit_jax.agents.optimization import make_optimizer
from modeledit_jax.agents.rollout import Env, to_action_space
from modeledit_jax.mesh import mapped
from modeledit_jax.types import Array, Field, Key, Params, PyTree

Tasks: TypeAlias = Callable[[Key], PyTree]
"""Draws the parameters of the environment for ``K`` tasks, leaves ``[K, ...]``; pure."""


@runtime_checkable
class PolicyNetwork(Protocol):
    """A network without a value; any Flax Linen module that returns a policy has it."""

    def init(self, key: Key, observation: PyTree, /) -> Params:
        """Parameters for one observation (no batch axis); ``key`` is consumed."""

    def apply(self, params: Params, observation: PyTree, /) -> Any:
        """The `Policy` of one observation."""


@dataclass(frozen=True)
class AtOnce:
    """How much of an update is computed side by side; less takes less memory, and longer.

    Attributes:
      tasks: that are played at a time; None: all.
      trials: of a task; None: all.
    """

    tasks: int | None = None
    trials: int | None = None


ALL_AT_ONCE = AtOnce()


@struct.dataclass
class MultitaskState:
    """Everything that changes in training."""

    params: Field  # of the network
    optimizer_state: Field
    key: Field
    updates: Field  # [] int32


@struct.dataclass
class Trials:
    """Actions tried, ``E`` in each of some states."""

    observation: Field  # leaves [..., ...]: seen in the states
    action: Field  # [..., E, A]
    log_prob: Field  # [..., E] float32, when it was sampled
    advantage: Field  # [..., E] float32, of mean 0 and deviation 1 in every state


def init(
    network: PolicyNetwork, config: PPOConfig, observation: PyTree, key: Key
) -> MultitaskState:
    """State before the first update.

    Args:
      network: its parameters must fit the observations of all tasks.
      config: hyper-parameters.
      observation: of any task.
      key: consumed.
    """
    network_key, key = jax.random.split(key)
    params = jax.jit(network.init)(network_key, observation)  # eager, it takes seconds
    params = with_search_distribution(params, None, config.initial_std)
    optimizer_state = make_optimizer(config, jnp.int32(0)).init(params)
    return MultitaskState(params, optimizer_state, key, jnp.int32(0))


def update(
    env: Env,
    tasks: Tasks,
    config: PPOConfig,
    network: PolicyNetwork,
    state: MultitaskState,
    at_once: AtOnce = ALL_AT_ONCE,
) -> tuple[MultitaskState, dict[str, Array]]:
    """Trials on freshly drawn tasks, and the epochs that learn from them.

    Args:
      env: environment whose episodes have ``config.num_steps`` steps.
      tasks: see `Tasks`.
      config: ``num_envs`` is ``E``; an epoch is a single minibatch of all trials; what concerns
        values, returns and normalization is not read.
      network: of the policy.
      state: from `init` or an earlier update; that may have been one on another ``env``, if the
        network takes the observations of both.
      at_once: what is played side by side.

    Returns:
      New state and scalar metrics: ``reward`` (mean over trials, summed over the steps of an
      episode), ``reward_spread`` (standard deviation over the trials in a state, mean over
      states), the parts of the loss and ``grad_norm``.
    """
    key, task_key, try_key = jax.random.split(state.key, 3)
    env_params = tasks(task_key)
    keys = jax.random.split(try_key, jax.tree.leaves(env_params)[0].shape[0])
    apply = partial(network.apply, state.params)

    def play(task: tuple[PyTree, Key]) -> tuple[Trials, Array]:
        return play_task(env, apply, config, *task, trials_at_once=at_once.trials)

    trials, reward = mapped(play, (env_params, keys), at_once.tasks)
    gradient = jax.grad(partial(grouped_loss, network, config), has_aux=True)
    optimizer = make_optimizer(config, state.updates)

    def epoch(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], dict[str, Array]]:
        params, optimizer_state = carry
        gradients, metrics = gradient(params, trials)
        change, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        return (optax.apply_updates(params, change), optimizer_state), metrics

    start = (state.params, state.optimizer_state)
    (params, optimizer_state), losses = jax.lax.scan(epoch, start, length=config.num_epochs)
    metrics = {"reward": reward.mean((0, 2)).sum(), "reward_spread": reward.std(-1).mean()}
    metrics |= {name: values.mean() for name, values in losses.items()}
    return MultitaskState(params, optimizer_state, key, state.updates + 1), metrics


def play_task(
    env: Env,
    apply: Callable[[PyTree], Policy],
    config: PPOConfig,
    env_params: PyTree,
    key: Key,
    trials_at_once: int | None = None,
) -> tuple[Trials, Float[Array, "T E"]]:
    """Plays the one course of a task on which the most probable actions lead.

    Returns:
      The trials in its ``T`` states, and their rewards.
    """
    legal = partial(to_action_space, env.action_space(env_params))
    reset_key, key = jax.random.split(key)
    keys = jax.random.split(key, config.num_steps)

    def tried(here: tuple[PyTree, PyTree], policy: Policy, key: Key) -> tuple[Any, ...]:
        def one(key: Key) -> tuple[Array, Array, Array]:
            act_key, env_key = jax.random.split(key)
            action = policy.sample(act_key)
            reward = env.step_env(env_key, here[1], legal(action), env_params)[2]
            return action, policy.log_prob(action), reward

        return here[0], *mapped(one, jax.random.split(key, config.num_envs), trials_at_once)

    def step(here: tuple[PyTree, PyTree], key: Key) -> tuple[tuple[PyTree, PyTree], Any]:
        try_key, env_key = jax.random.split(key)
        policy = apply(here[0])
        ahead = env.step_env(env_key, here[1], legal(policy.mode()), env_params)[:2]
        return ahead, tried(here, policy, try_key)

    # The last state leads nowhere: a step there would only be looked at in vain.
    last, before = jax.lax.scan(step, env.reset_env(reset_key, env_params), keys[:-1])
    observation, action, log_prob, reward = jax.tree.map(
        lambda steps, end: jnp.concatenate([steps, end[None]]),
        before,
        tried(last, apply(last[0]), keys[-1]),
    )
    centered = reward - reward.mean(1, keepdims=True)
    advantage = centered / (reward.std(1, keepdims=True) + 1e-8)
    return Trials(observation, action, log_prob, advantage), reward


def grouped_loss(
    network: PolicyNetwork, config: PPOConfig, params: Params, trials: Trials
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """`clipped_surrogate` of trials ``[K, T, E]``; the network reads every state once."""

    def state(observation: PyTree, actions: Array) -> Array:
        return jax.vmap(network.apply(params, observation).log_prob)(actions)

    log_prob = jax.vmap(jax.vmap(state))(trials.observation, trials.action)
    return clipped_surrogate(config, trials.advantage, log_prob, trials.log_prob)
