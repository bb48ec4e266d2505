"""PPO for one policy on many tasks: parameters of the environment are drawn anew for every update.

`modeledit_jax.agents.ppo` trains a policy on the environment it is given. Here every update draws
``K`` tasks, plays ``E`` whole episodes of each, all in one compiled call, and compares an episode
with the others of its task alone: tasks differ in how much reward there is to be had, and a mean
over tasks would say which task it was rather than which action was good (Schulman et al. 2017 for
the loss; Shao et al. 2024, arXiv 2402.03300, for groups as baselines).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Float

from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.distributions import Policy
from modeledit_jax.agents.gae import generalized_advantages
from modeledit_jax.agents.loss import Batch, clipped_loss
from modeledit_jax.agents.networks import Network, with_search_distribution
from modeledit_jax.agents.optimization import make_optimizer
from modeledit_jax.agents.rollout import Env, to_action_space
from modeledit_jax.types import Array, Field, Key, Params, PyTree

Tasks: TypeAlias = Callable[[Key], PyTree]
"""Draws the parameters of the environment for ``K`` tasks, leaves ``[K, ...]``; pure."""


@struct.dataclass
class MultitaskState:
    """Everything that changes in training."""

    params: Field  # of the network
    optimizer_state: Field
    key: Field
    updates: Field  # [] int32


def init(network: Network, config: PPOConfig, observation: PyTree, key: Key) -> MultitaskState:
    """State before the first update.

    Args:
        network: policy and value; its parameters must fit the observations of all tasks.
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
    env: Env, tasks: Tasks, config: PPOConfig, network: Network, state: MultitaskState
) -> tuple[MultitaskState, dict[str, Array]]:
    """Episodes of freshly drawn tasks, and the epochs that learn from them.

    Args:
        env: environment whose episodes of a task all start in the same state and terminate after
            ``config.num_steps`` steps.
        tasks: see `Tasks`.
        config: ``num_envs`` is that of one task; an epoch is a single minibatch of all samples;
            ``normalize_advantage`` and the two other normalisations are not read.
        network: policy and value.
        state: from `init` or an earlier update; that may have been one on another ``env``, if the
            network takes the observations of both.

    Returns:
        New state and scalar metrics: ``reward`` (of an episode, mean over all), ``reward_spread``
        (its standard deviation within a task, mean over tasks), the parts of the loss and
        ``grad_norm``.
    """
    key, task_key, play_key = jax.random.split(state.key, 3)
    env_params = tasks(task_key)
    keys = jax.random.split(play_key, jax.tree.leaves(env_params)[0].shape[0])
    play = partial(play_task, env, partial(network.apply, state.params), config)
    batch, reward = jax.vmap(play)(env_params, keys)
    gradient = jax.grad(partial(grouped_loss, network, config), has_aux=True)
    optimizer = make_optimizer(config, state.updates)

    def epoch(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], dict[str, Array]]:
        params, optimizer_state = carry
        gradients, metrics = gradient(params, batch)
        change, optimizer_state = optimizer.update(gradients, optimizer_state, params)
        metrics["grad_norm"] = optax.tree.norm(gradients)
        return (optax.apply_updates(params, change), optimizer_state), metrics

    start = (state.params, state.optimizer_state)
    (params, optimizer_state), losses = jax.lax.scan(epoch, start, length=config.num_epochs)
    metrics = {"reward": reward.mean(), "reward_spread": reward.std(-1).mean()}
    metrics |= {name: values.mean() for name, values in losses.items()}
    return MultitaskState(params, optimizer_state, key, state.updates + 1), metrics


@struct.dataclass
class _Sample:
    """One step of an episode, without what was seen before it."""

    action: Field
    log_prob: Field
    value: Field
    reward: Field
    terminated: Field


def play_task(
    env: Env, apply: Callable[[PyTree], Any], config: PPOConfig, env_params: PyTree, key: Key
) -> tuple[Batch, Float[Array, " E"]]:
    """Plays the episodes of one task.

    Returns:
        Samples in ``G`` groups of ``S`` that share an observation: observations ``[G, ...]``, all
        else ``[G, S, ...]``. Episodes of one step share that of the start, which the network then
        reads once (G = 1, S = E); else every sample is a group of its own (G = T·E, S = 1). And
        the sum of the rewards of every episode.
    """
    reset_key, first_key, key = jax.random.split(key, 3)
    observation, env_state = env.reset_env(reset_key, env_params)
    start = apply(observation)
    step = partial(_step, env, env_params)
    (seen, env_states), first = jax.vmap(lambda key: step(start, env_state, key))(
        jax.random.split(first_key, config.num_envs)
    )
    if config.num_steps == 1:
        shared, sample = jax.tree.map(lambda x: x[None], (observation, first))
        return _batch(config, shared, sample), first.reward

    def later(carry: tuple[PyTree, PyTree], key: Key) -> tuple[tuple, tuple]:
        seen, env_states = carry
        keys = jax.random.split(key, config.num_envs)
        carry, sample = jax.vmap(lambda o, s, k: step(apply(o), s, k))(seen, env_states, keys)
        return carry, (seen, sample)

    keys = jax.random.split(key, config.num_steps - 1)
    _, (seen, samples) = jax.lax.scan(later, (seen, env_states), keys)
    samples = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, samples)
    begin = jax.tree.map(lambda x, xs: jnp.broadcast_to(x, (1, *xs.shape[1:])), observation, seen)
    seen = jax.tree.map(lambda x, xs: jnp.concatenate([x, xs]), begin, seen)
    batch = _batch(config, seen, samples)
    flat = jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), replace(batch, observation=None))
    seen = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), seen)
    return replace(flat, observation=seen), samples.reward.sum(0)


def _step(
    env: Env, env_params: PyTree, start: tuple[Policy, Array], env_state: PyTree, key: Key
) -> tuple[tuple[PyTree, PyTree], _Sample]:
    """One step of one episode; returns what comes after it, and the sample."""
    policy, value = start
    act_key, env_key = jax.random.split(key)
    action = policy.sample(act_key)
    taken = to_action_space(env.action_space(env_params), action)
    seen, env_state, reward, terminated, _ = env.step_env(env_key, env_state, taken, env_params)
    sample = _Sample(action, policy.log_prob(action), value, reward, terminated)
    return (seen, env_state), sample


def _batch(config: PPOConfig, observation: PyTree, samples: _Sample) -> Batch:
    """Advantages of the samples ``[T, E]`` of a task, standardised at every step."""
    following = jnp.concatenate([samples.value[1:], jnp.zeros_like(samples.value[:1])])
    advantage = generalized_advantages(
        samples.reward,
        samples.value,
        following,
        samples.terminated,
        jnp.zeros_like(samples.terminated),
        config.gamma,
        config.gae_lambda,
    )
    centred = advantage - advantage.mean(1, keepdims=True)
    return Batch(
        observation=observation,
        action=samples.action,
        log_prob=samples.log_prob,
        value=samples.value,
        advantage=centred / (advantage.std(1, keepdims=True) + 1e-8),
        value_target=advantage + samples.value,
    )


def grouped_loss(
    network: Network, config: PPOConfig, params: Params, batch: Batch
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """`modeledit_jax.agents.loss.loss` where samples ``[K, G, S]`` share their observation."""

    def group(observation: PyTree, actions: Array) -> tuple[Array, Array, Array]:
        policy, value = network.apply(params, observation)
        log_prob = jax.vmap(policy.log_prob)(actions)
        return log_prob, *(jnp.broadcast_to(x, log_prob.shape) for x in (policy.entropy(), value))

    log_prob, entropy, value = jax.vmap(jax.vmap(group))(batch.observation, batch.action)
    return clipped_loss(
        replace(config, normalize_advantage="none"), batch, log_prob, entropy, value
    )
