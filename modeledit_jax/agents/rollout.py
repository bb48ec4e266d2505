"""Playing policies in gymnax environments: training rollouts and whole episodes.

An environment is anything with the step of gymnax 1.0, environments and wrappers alike:
``(observation, state, reward, terminated, truncated, info)`` with automatic reset, and the
observation before that reset in ``info["final_observation"]``.

An environment whose class has the property `one_state`, and says True, promises that its episodes
are of one step, which terminates them, and that all of them start alike. All steps are then taken
in one state: policy and value are computed once for all, and nothing after a step is looked at.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from gymnax.environments import spaces
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.mesh import map_candidates
from modeledit_jax.types import Array, Field, Key, PyTree

Env: TypeAlias = Any
"""A gymnax 1.0 environment or wrapper; static, so build it once and use it everywhere."""

ActorCriticFn: TypeAlias = Callable[[PyTree], tuple[Any, Array]]
"""One observation -> (`Policy`, value [])."""

_NOT_LOGGED = ("terminated", "truncated", "final_observation")


@struct.dataclass
class RolloutState:
    """Where the environments of a rollout stand between two rollouts."""

    env_state: Field  # environment's own pytree, leaves [E, ...]; of `one_state` without that axis
    observation: Field  # pytree, leaves [E, ...]; likewise
    episode_return: Field  # [E] float32, undiscounted, of the episode under way
    one_state: bool = struct.field(pytree_node=False, default=False)  # of the environment


@struct.dataclass
class Transition:
    """Steps of a rollout; `rollout` stacks them to leading axes [T, E]."""

    observation: Field  # pytree, leaves [T, E, ...]; of `one_state` without these axes
    action: Field  # [T, E, *action], as sampled, before any clipping
    log_prob: Field  # [T, E] float32
    value: Field  # [T, E] float32, V of `observation`
    next_value: Field  # [T, E] float32, V of the next observation before automatic reset; where the
    #   step has terminated the episode, any value: no one asks for it
    reward: Field  # [T, E] float32
    terminated: Field  # [T, E] bool
    truncated: Field  # [T, E] bool
    one_state: bool = struct.field(pytree_node=False, default=False)  # of the environment


def one_state(env: Env) -> bool:
    """Whether an environment promises that all steps are taken in one state; see the module.

    Its class is asked: a wrapper, which may keep a state of its own from step to step, would hand
    on the answer of what it wraps.
    """
    return hasattr(type(env), "one_state") and bool(env.one_state)


def reset(env: Env, env_params: PyTree, num_envs: int, key: Key) -> RolloutState:
    """Reset ``num_envs`` environments; `key` is consumed.

    Raises:
      ValueError: the environment promises `one_state`, but its reset is random.
    """
    keys = jax.random.split(key, num_envs)
    one = one_state(env)
    start = jax.vmap(env.reset, in_axes=(0, None), out_axes=None if one else 0)
    try:
        observation, env_state = _strongly_typed(start(keys, env_params))
    except ValueError as error:
        if not one or "out_axes" not in str(error):
            raise
        raise ValueError(
            f"{type(env).__name__}.one_state is True, but reset draws random numbers: start all "
            "episodes alike, or let one_state be False"
        ) from error
    return RolloutState(env_state, observation, jnp.zeros(num_envs), one)


def _strongly_typed(tree: PyTree) -> PyTree:
    """Python numbers in a reset give weak types, strong ones after a step: a second compilation."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), tree)


def rollout(
    env: Env,
    env_params: PyTree,
    actor_critic: ActorCriticFn,
    state: RolloutState,
    key: Key,
    *,
    num_steps: int,
    env_batch_size: int | None = None,
) -> tuple[RolloutState, Transition, dict[str, Array]]:
    """Play ``num_steps`` steps in all environments.

    Args:
      env: environment.
      env_params: its parameters.
      actor_critic: policy and value of one observation.
      state: where the environments stand.
      key: consumed.
      num_steps: T.
      env_batch_size: environments stepped at a time, to keep intermediates in cache; None: all.

    Returns:
      New state; transitions [T, E]; and scalar metrics: ``reward`` per step, ``episodes``
      finished, ``episode_return`` their mean (NaN if none), and ``info/<name>`` for each scalar
      that the environment puts into its ``info``.
    """
    one = state.one_state  # then the policy does not depend on the environment in `vmap`

    def act(observation: PyTree, key: Key) -> tuple[Array, Array, Array]:
        policy, value = actor_critic(observation)
        action = policy.sample(key)
        return action, policy.log_prob(action), value

    values = jax.vmap(lambda observation: actor_critic(observation)[1])

    def step(state: RolloutState, key: Key) -> tuple[RolloutState, tuple]:
        act_keys, env_keys = jax.random.split(key, (2, state.episode_return.shape[0]))
        seen = state.observation
        action, log_prob, value = jax.vmap(act, in_axes=(None if one else 0, 0))(seen, act_keys)
        observation, env_state, reward, terminated, truncated, info = _step_all(
            env, env_params, state, action, env_keys, env_batch_size
        )
        if one:  # what follows a step is another episode, which starts as this one did
            next_value, observation, env_state = value, seen, state.env_state
        else:  # seldom asked for: elsewhere it is the value that the next step computes
            final = partial(values, info["final_observation"])
            next_value = jax.lax.cond(truncated.any(), final, lambda: jnp.zeros_like(value))
        returns = state.episode_return + reward
        outcome = (next_value, reward, terminated, truncated, one)
        transition = Transition(None if one else seen, action, log_prob, value, *outcome)
        under_way = jnp.where(terminated | truncated, 0.0, returns)
        after = RolloutState(env_state, observation, under_way, one)
        return after, (transition, returns, _scalars(info))

    keys = jax.random.split(key, num_steps)
    state, (transitions, returns, info) = jax.lax.scan(step, state, keys)
    summary = _summary(transitions, returns, info)
    if one:
        return state, replace(transitions, observation=state.observation), summary
    return state, _with_values_that_follow(transitions, values(state.observation)), summary


def _with_values_that_follow(steps: Transition, last: Float[Array, " E"]) -> Transition:
    """Of a step that was not truncated, the next value is that of the observation after it."""
    following = jnp.append(steps.value[1:], last[None], axis=0)
    return replace(steps, next_value=jnp.where(steps.truncated, steps.next_value, following))


def _step_all(
    env: Env,
    env_params: PyTree,
    state: RolloutState,
    action: Array,
    keys: Key,
    batch_size: int | None,
) -> tuple[Any, ...]:
    """The environments' answers to their actions."""
    action = to_action_space(env.action_space(env_params), action)
    if state.one_state:
        answers = map_candidates(
            lambda xs: env.step(xs[0], state.env_state, xs[1], env_params),
            (keys, action),
            batch_size,
        )
    else:
        inputs = (keys, state.env_state, action)
        answers = map_candidates(lambda xs: env.step(*xs, env_params), inputs, batch_size)
    observation, env_state, reward, terminated, truncated, info = answers
    ends = terminated.astype(bool), truncated.astype(bool)
    return observation, env_state, reward.astype(jnp.float32), *ends, info


def _scalars(info: dict[str, PyTree]) -> dict[str, Float[Array, " E"]]:
    """The entries with one number per environment."""
    return {
        name: entry.astype(jnp.float32)
        for name, entry in info.items()
        if name not in _NOT_LOGGED and isinstance(entry, jax.Array) and entry.ndim == 1
    }


def _summary(
    steps: Transition, returns: Float[Array, "T E"], info: dict[str, Float[Array, "T E"]]
) -> dict[str, Array]:
    """Metrics of a rollout; ``returns`` are those of the episodes up to each step."""
    done = steps.terminated | steps.truncated
    episodes = done.sum()
    mean_return = jnp.sum(returns * done) / jnp.maximum(episodes, 1)
    return {
        "reward": steps.reward.mean(),
        "episodes": episodes,
        "episode_return": jnp.where(episodes > 0, mean_return, jnp.nan),
        **{f"info/{name}": entry.mean() for name, entry in info.items()},
    }


def to_action_space(space: spaces.Space, action: Array) -> Array:
    """An action as the environment takes it: clipped to the bounds of a `Box`, in its dtype."""
    if isinstance(space, spaces.Box):
        action = jnp.clip(action, space.low, space.high)
    return action.astype(space.dtype)


def play_episode(
    env: Env, env_params: PyTree, choose: Callable[[PyTree, Key], Array], key: Key
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """Play one episode to its end.

    Args:
      env: environment.
      env_params: its parameters.
      choose: ``(observation, key) -> action``; clipped here to the action space.
      key: consumed.

    Returns:
      Undiscounted return and number of steps.
    """
    space = env.action_space(env_params)
    reset_key, key = jax.random.split(key)
    observation, env_state = _strongly_typed(env.reset(reset_key, env_params))

    def step(carry: tuple) -> tuple:
        key, env_state, observation, total, length, _ = carry
        key, choose_key, env_key = jax.random.split(key, 3)
        action = to_action_space(space, choose(observation, choose_key))
        observation, env_state, reward, terminated, truncated, _ = env.step(
            env_key, env_state, action, env_params
        )
        done = (terminated | truncated).astype(bool)
        return key, env_state, observation, total + reward.astype(jnp.float32), length + 1, done

    start = (key, env_state, observation, jnp.float32(0), jnp.int32(0), jnp.bool_(False))
    *_, total, length, _ = jax.lax.while_loop(lambda carry: ~carry[-1], step, start)
    return total, length
