"""Proximal policy optimization (Schulman et al. 2017, arXiv 1707.06347) for gymnax environments.

`train` is `init` and a scan of `update`; an update is a rollout, advantages, and epochs of
minibatches. All are pure: `jit` them, and `vmap` them over keys (seeds), environment parameters
(tasks) and the numbers of the configuration (sweeps). Between two updates everything is in
`PPOState`, so a Python loop over `scan_updates` gives the same bits as one `train`::

    config = PPOConfig(num_envs=16, num_updates=200)
    state, metrics = jax.jit(partial(train, env))(env_params, config, key)

Implementation choices beyond the paper follow Huang et al. 2022, "The 37 Implementation Details
of Proximal Policy Optimization", except that truncated episodes are bootstrapped.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.agents.config import PPOConfig
from modeledit_jax.agents.distributions import Policy
from modeledit_jax.agents.gae import generalized_advantages
from modeledit_jax.agents.loss import Batch, explained_variance, standardize
from modeledit_jax.agents.networks import (
    Network,
    default_network,
    with_search_distribution,
)
from modeledit_jax.agents.normalization import RewardScale, RunningStatistics
from modeledit_jax.agents.optimization import make_optimizer, optimize, schedule_fraction
from modeledit_jax.agents.rollout import Env, Transition, play_episode, reset, rollout
from modeledit_jax.types import Array, Field, Key, PyTree

Metrics = dict[str, Array]


@struct.dataclass
class PPOState:
    """Everything an update starts from, and all a checkpoint needs to hold."""

    params: Field  # parameters of the network
    optimizer_state: Field
    rollout: Field  # RolloutState of E environments
    observation_statistics: Field  # RunningStatistics, or None: observations are used as they are
    reward_scale: Field  # RewardScale, or None: rewards are used as they are
    key: Field  # () PRNG key of the updates to come
    updates: Field  # () int32, updates made so far


def train(
    env: Env,
    env_params: PyTree,
    config: PPOConfig,
    key: Key,
    *,
    network: Network | None = None,
    start_action: Array | None = None,
) -> tuple[PPOState, Metrics]:
    """Train from scratch for ``config.num_updates`` updates.

    Args:
      env: gymnax 1.0 environment or wrapper, static.
      env_params: its parameters.
      config: hyper-parameters.
      key: consumed.
      network: any `Network`; None: `default_network` for the environment's action space.
      start_action: [*action], first value of the parameter ``action_mean``; None: zero.

    Returns:
      Final state and metrics, each [num_updates], as described in `update`.

    Raises:
      ValueError: if the environment's action space has no default network, or ``start_action``
        does not fit the network.
    """
    state = init(env, env_params, config, key, network=network, start_action=start_action)
    return scan_updates(env, env_params, config, state, config.num_updates, network=network)


def scan_updates(
    env: Env,
    env_params: PyTree,
    config: PPOConfig,
    state: PPOState,
    num_updates: int,
    *,
    network: Network | None = None,
) -> tuple[PPOState, Metrics]:
    """Several updates in one scan; ``num_updates`` is static. Metrics are [num_updates] each."""

    def step(state: PPOState, _: None) -> tuple[PPOState, Metrics]:
        return update(env, env_params, config, state, network=network)

    return jax.lax.scan(step, state, length=num_updates)


def init(
    env: Env,
    env_params: PyTree,
    config: PPOConfig,
    key: Key,
    *,
    network: Network | None = None,
    start_action: Array | None = None,
) -> PPOState:
    """State before the first update; arguments and errors are those of `train`."""
    network = _network(env, env_params, config, network)
    network_key, reset_key, key = jax.random.split(key, 3)
    rollout_state = reset(env, env_params, config.num_envs, reset_key)
    observation = rollout_state.observation
    if not rollout_state.one_state:
        observation = jax.tree.map(lambda x: x[0], observation)
    params = with_search_distribution(
        network.init(network_key, observation), start_action, config.initial_std
    )
    return PPOState(
        params=params,
        optimizer_state=make_optimizer(config, jnp.int32(0)).init(params),
        rollout=rollout_state,
        observation_statistics=(
            RunningStatistics.create(observation) if config.normalize_observations else None
        ),
        reward_scale=RewardScale.create(config.num_envs) if config.normalize_rewards else None,
        key=key,
        updates=jnp.int32(0),
    )


def update(
    env: Env,
    env_params: PyTree,
    config: PPOConfig,
    state: PPOState,
    *,
    network: Network | None = None,
) -> tuple[PPOState, Metrics]:
    """One rollout and the epochs of minibatches that learn from it.

    Args:
      env: gymnax 1.0 environment or wrapper, static.
      env_params: its parameters.
      config: hyper-parameters, with the static fields the state was made with.
      state: from `init` or an earlier update.
      network: the network the state was made with; None: the default one.

    Returns:
      New state and scalar metrics. From the rollout: ``reward`` (unscaled mean), ``episodes``
      finished, ``episode_return`` (their mean, NaN if none), ``info/<name>``,
      ``explained_variance`` of the value targets. Means over all minibatches: ``policy_loss``,
      ``value_loss``, ``entropy``, ``approx_kl``, ``clip_fraction``, ``grad_norm`` (before
      clipping). ``first_ratio_error``: largest \\|ratio − 1\\| of the first minibatch, zero but
      for rounding. ``learning_rate``: of the network.
    """
    network = _network(env, env_params, config, network)
    key, rollout_key, minibatch_key = jax.random.split(state.key, 3)
    rollout_state, trajectory, rollout_metrics = rollout(
        env,
        env_params,
        partial(actor_critic, network, state),
        state.rollout,
        rollout_key,
        num_steps=config.num_steps,
        env_batch_size=config.env_batch_size,
    )
    reward_scale, trajectory = _scale_rewards(state.reward_scale, trajectory, config.gamma)
    batch = _batch(config, state, trajectory)
    params, optimizer_state, losses = optimize(
        network, config, state.params, state.optimizer_state, state.updates, batch, minibatch_key
    )
    metrics = rollout_metrics | _learning_metrics(config, state, batch, losses)
    state = PPOState(
        params=params,
        optimizer_state=optimizer_state,
        rollout=rollout_state,
        observation_statistics=_observe(config, state.observation_statistics, trajectory),
        reward_scale=reward_scale,
        key=key,
        updates=state.updates + 1,
    )
    return state, metrics


def actor_critic(
    network: Network, state: PPOState, observation: PyTree
) -> tuple[Policy, Float[Array, ""]]:
    """Policy and value of one observation as the environment gives it."""
    if state.observation_statistics is not None:
        observation = state.observation_statistics.normalize(observation)
    return network.apply(state.params, observation)


def policy_mode(network: Network, state: PPOState, observation: PyTree) -> Array:
    """Most probable action for one observation, not clipped to any bounds."""
    return actor_critic(network, state, observation)[0].mode()


def evaluate(
    env: Env,
    env_params: PyTree,
    network: Network,
    state: PPOState,
    key: Key,
    num_episodes: int,
    *,
    deterministic: bool = True,
) -> tuple[Float[Array, " N"], Int[Array, " N"]]:
    """Play whole episodes with a trained policy.

    Args:
      env: gymnax 1.0 environment or wrapper, static.
      env_params: its parameters.
      network: the network the state was made with.
      state: trained state.
      key: consumed.
      num_episodes: N, played in parallel, static.
      deterministic: take the mode of the policy instead of a sample.

    Returns:
      Undiscounted returns and lengths of the episodes.
    """

    def choose(observation: PyTree, key: Key) -> Array:
        policy, _ = actor_critic(network, state, observation)
        return policy.mode() if deterministic else policy.sample(key)

    return jax.vmap(partial(play_episode, env, env_params, choose))(
        jax.random.split(key, num_episodes)
    )


def _network(env: Env, env_params: PyTree, config: PPOConfig, network: Network | None) -> Network:
    if network is not None:
        return network
    return default_network(env.action_space(env_params), config.hidden_sizes)


def _scale_rewards(
    scale: RewardScale | None, trajectory: Transition, gamma: float | Array
) -> tuple[RewardScale | None, Transition]:
    if scale is None:
        return None, trajectory
    done = trajectory.terminated | trajectory.truncated
    scale = scale.update(trajectory.reward, done, gamma)
    return scale, replace(trajectory, reward=scale.scale(trajectory.reward))


def _batch(config: PPOConfig, state: PPOState, trajectory: Transition) -> Batch:
    """All samples of a rollout, [T, E, ...] flattened to [E·T, ...]; one state has no such axes."""
    advantage = generalized_advantages(
        trajectory.reward,
        trajectory.value,
        trajectory.next_value,
        trajectory.terminated,
        trajectory.truncated,
        config.gamma,
        config.gae_lambda,
    )
    observation = trajectory.observation
    if state.observation_statistics is not None:
        observation = state.observation_statistics.normalize(observation)
    batch = Batch(
        observation=None,
        action=trajectory.action,
        log_prob=trajectory.log_prob,
        value=trajectory.value,
        advantage=standardize(advantage) if config.normalize_advantage == "batch" else advantage,
        value_target=advantage + trajectory.value,
        one_state=trajectory.one_state,
    )
    if not trajectory.one_state:
        observation = _flat(config, observation)
    return replace(_flat(config, batch), observation=observation)


def _flat(config: PPOConfig, tree: PyTree) -> PyTree:
    """[T, E, ...] as [E·T, ...]."""
    return jax.tree.map(lambda x: x.reshape(config.batch_size, *x.shape[2:]), tree)


def _learning_metrics(config: PPOConfig, state: PPOState, batch: Batch, losses: Metrics) -> Metrics:
    """What `update` reports of its minibatches, whose ``losses`` are [minibatches] each."""
    return {
        "first_ratio_error": losses["ratio_error"][0],
        "explained_variance": explained_variance(batch.value, batch.value_target),
        "learning_rate": config.learning_rate * schedule_fraction(config, state.updates),
        **{name: x.mean() for name, x in losses.items() if name != "ratio_error"},
    }


def _observe(
    config: PPOConfig, statistics: RunningStatistics | None, trajectory: Transition
) -> RunningStatistics | None:
    if statistics is None:
        return None
    if not trajectory.one_state:
        return statistics.update(_flat(config, trajectory.observation))
    # Seen once by every sample.
    every = partial(jnp.repeat, repeats=config.batch_size, axis=0)
    return statistics.update(jax.tree.map(lambda x: every(x[None]), trajectory.observation))
