"""Checks that an environment keeps the contracts that agents rely on.

For any gymnax 1.0 environment, not for worlds alone::

    check_env(MyEnvironment(), key=jax.random.key(0))

Every contract is a function of its own. A breach raises an `AssertionError` that says which
contract broke and how to mend it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces
from gymnax.environments.environment import Environment
from gymnax.wrappers import FlattenObservationWrapper, LogWrapper

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.types import Array, Key, PyTree


@dataclass(frozen=True)
class Transition:
    """One call of ``env.step``: what went in, then the six values that came out."""

    key: Key
    state: PyTree
    action: PyTree
    observation: PyTree
    next_state: PyTree
    reward: Array
    terminated: Array
    truncated: Array
    info: PyTree

    @property
    def done(self) -> bool:
        """Whether the episode ended with this step."""
        return bool(self.terminated) or bool(self.truncated)


def check_env(
    env: Environment,
    params: PyTree | None = None,
    *,
    key: Key,
    num_steps: int | None = None,
    episode_length: int | None = None,
    tolerance: float = 1e-5,
) -> None:
    """Plays random actions and checks every contract of this module.

    Args:
      env: the environment itself, not a wrapper around it.
      params: its params; default ``env.default_params``.
      key: typed key; the same key makes the same check.
      num_steps: steps to play, enough for an episode to end. Default: one more than
        ``params.max_steps_in_episode``.
      episode_length: steps of every episode, where that is fixed.
      tolerance: relative and absolute, of floats that should agree.

    Raises:
      AssertionError: a contract is broken; the message names it and the cure.
    """
    params = env.default_params if params is None else params
    if num_steps is None:
        num_steps = int(params.max_steps_in_episode) + 1
    check_state_types(env, params, key)
    transitions, traces = play(env, params, key, num_steps)
    check_single_trace(traces)
    check_step_values(transitions[0])
    check_spaces(env, params, transitions)
    check_compiled_equals_eager(env, params, key, tolerance)
    check_episode_end(transitions, int(params.max_steps_in_episode), episode_length)
    check_autoreset(env, params, transitions, tolerance)
    check_vmap_equals_loop(env, params, key, tolerance)
    check_wrappers(env, params, key)
    check_transition_gradients(env, params, key)


def play(
    env: Environment, params: PyTree, key: Key, num_steps: int
) -> tuple[list[Transition], dict[str, int]]:
    """Plays random actions through compiled ``env.reset`` and ``env.step``.

    Returns:
      The transitions, and how often ``"reset"`` and ``"step"`` were traced.
    """
    traces = {"reset": 0, "step": 0}

    @jax.jit
    def reset(key: Key, params: PyTree) -> tuple[PyTree, PyTree]:
        traces["reset"] += 1  # runs when JAX traces the function, and then only
        return env.reset(key, params)

    @jax.jit
    def step(key: Key, state: PyTree, action: PyTree, params: PyTree) -> tuple[PyTree, ...]:
        traces["step"] += 1
        return env.step(key, state, action, params)

    reset_key, *keys = jax.random.split(key, num_steps + 1)
    _, state = reset(reset_key, params)
    transitions = []
    for step_key in keys:
        action_key, step_key = jax.random.split(step_key)
        action = env.action_space(params).sample(action_key)
        outcome = step(step_key, state, action, params)
        _require(
            len(outcome) == 6,
            f"env.step returned {len(outcome)} values instead of six (observation, state, reward, "
            "terminated, truncated, info)",
            "implement step_env (five values) and inherit step from gymnax 1.0",
        )
        transitions.append(Transition(step_key, state, action, *outcome))
        state = outcome[1]
    return transitions, traces


def check_state_types(env: Environment, params: PyTree, key: Key) -> None:
    """Observation and state have the same structure, shapes and dtypes from reset and step."""
    action = env.action_space(params).sample(key)
    after_reset = jax.eval_shape(env.reset_env, key, params)
    after_step = jax.eval_shape(env.step_env, key, after_reset[1], action, params)
    _require(
        len(after_step) == 5,
        f"step_env returned {len(after_step)} values instead of five (observation, state, reward, "
        "terminated, info)",
        "leave truncation to is_truncated and the six values to gymnax's step",
    )
    for name, begin, end in zip(("observation", "state"), after_reset, after_step[:2], strict=True):
        paths = leaf_paths(begin)
        _require(
            paths == leaf_paths(end),
            f"the {name} has the entries {paths} after reset_env, {leaf_paths(end)} after step_env",
            "return the same fields from both; the automatic reset selects between them",
        )
        for path, one, other in zip(paths, *map(jax.tree.leaves, (begin, end)), strict=True):
            _require(
                (one.shape, one.dtype) == (other.shape, other.dtype),
                f"the {name} {path} is {one.dtype}{list(one.shape)} after reset_env and "
                f"{other.dtype}{list(other.shape)} after step_env",
                "cast it where it is made, e.g. jnp.asarray(value, jnp.float32)",
            )


def check_single_trace(traces: dict[str, int]) -> None:
    """``reset`` and ``step`` compile once, whatever the step."""
    for name, count in traces.items():
        _require(
            count == 1,
            f"env.{name} was traced {count} times",
            "make the fields of every state arrays of one dtype (jnp.int32(0) instead of 0)",
        )


def check_step_values(transition: Transition) -> None:
    """The reward is a float scalar, both ends are bool scalars, info repeats them."""
    reward = transition.reward
    _require(
        reward.shape == () and jnp.issubdtype(reward.dtype, jnp.floating),
        f"the reward is {reward.dtype}{list(reward.shape)}, not a float scalar",
        "return e.g. jnp.float32(value), squeezed",
    )
    for name in ("terminated", "truncated"):
        value = getattr(transition, name)
        _require(
            value.shape == () and value.dtype == bool,
            f"{name} is {value.dtype}{list(value.shape)}, not a bool scalar",
            f"let is_{name} return one comparison",
        )
    for name in ("terminated", "truncated", "final_observation"):
        _require(
            name in transition.info,
            f"info lacks {name!r}",
            "inherit step from gymnax 1.0 and override step_env alone",
        )


def check_spaces(env: Environment, params: PyTree, transitions: Sequence[Transition]) -> None:
    """Observations lie in their space and, like rewards, are finite; actions lie in theirs."""
    observation_space, action_space = env.observation_space(params), env.action_space(params)
    for transition in transitions:
        _require_in_space(transition.action, action_space, "action")
        _require_in_space(transition.observation, observation_space, "observation")
        _require_in_space(transition.info["final_observation"], observation_space, "observation")
        _require(
            bool(jnp.isfinite(transition.reward)),
            f"the reward is {transition.reward}",
            "guard divisions, logarithms and overflows in step_env",
        )


def check_episode_end(
    transitions: Sequence[Transition], max_steps: int, episode_length: int | None = None
) -> None:
    """Episodes end at ``max_steps`` at the latest, and exactly at ``episode_length`` if given."""
    length = 0
    for transition in transitions:
        length += 1
        _require(
            transition.done or length < max_steps,
            f"the episode goes on after max_steps_in_episode = {max_steps} steps",
            "count state.time up by one in step_env and keep gymnax's is_truncated",
        )
        _require(
            episode_length is None or transition.done == (length == episode_length),
            f"done is {transition.done} at step {length} of an episode of {episode_length} steps",
            "start state.time at 0 and end the episode when it reaches the length",
        )
        length = 0 if transition.done else length
    _require(
        any(transition.done for transition in transitions),
        f"no episode ended within {len(transitions)} steps, so that ends are unchecked",
        "pass a larger num_steps, or params with a smaller max_steps_in_episode",
    )


def check_autoreset(
    env: Environment, params: PyTree, transitions: Sequence[Transition], tolerance: float = 1e-5
) -> None:
    """A finished episode starts anew, and ``final_observation`` still shows how it ended."""
    fresh, other = (env.reset(jax.random.key(seed), params) for seed in (0, 1))
    deterministic = _close(fresh, other, tolerance)
    step_env = jax.jit(env.step_env)
    for transition in transitions:
        # gymnax gives the first half of the key to step_env, the second to reset_env.
        step_key, _ = jax.random.split(transition.key)
        ended, *_ = step_env(step_key, transition.state, transition.action, params)
        _require(
            _close(transition.info["final_observation"], ended, tolerance),
            "info['final_observation'] is not the observation that the episode ended with",
            "set it before the automatic reset, as gymnax's own step does",
        )
        if not transition.done:
            continue
        after = (transition.observation, transition.next_state)
        anew = _close(after, fresh, tolerance) if deterministic else True
        _require(
            anew and _close(transition.next_state.time, fresh[1].time, 0.0),
            "after the end of an episode, state or observation is not that of a fresh reset",
            "inherit step from gymnax 1.0, and let reset_env set every field of the state",
        )


def check_compiled_equals_eager(
    env: Environment, params: PyTree, key: Key, tolerance: float = 1e-5
) -> None:
    """``reset_env`` and ``step_env`` give under `jax.jit` what they give without."""
    reset_key, action_key, step_key = jax.random.split(key, 3)
    _, state = env.reset_env(reset_key, params)
    action = env.action_space(params).sample(action_key)
    for function, arguments in (
        (env.reset_env, (reset_key, params)),
        (env.step_env, (step_key, state, action, params)),
    ):
        _require(
            _close(jax.jit(function)(*arguments), function(*arguments), tolerance),
            f"{function.__name__} differs between compiled and eager calls",
            "use jnp.where or lax.cond; no Python state, NumPy randomness or side effect",
        )


def check_vmap_equals_loop(
    env: Environment, params: PyTree, key: Key, tolerance: float = 1e-5
) -> None:
    """Environments side by side under `jax.vmap` do what each does alone."""

    def begin_and_step(key: Key, params: PyTree) -> tuple[PyTree, ...]:
        reset_key, action_key, step_key = jax.random.split(key, 3)
        _, state = env.reset(reset_key, params)
        return env.step(step_key, state, env.action_space(params).sample(action_key), params)

    keys = jax.random.split(key, 3)
    together = jax.vmap(begin_and_step, (0, None))(keys, params)
    for index, own_key in enumerate(keys):
        _require(
            _close(
                jax.tree.map(lambda leaf, i=index: leaf[i], together),
                begin_and_step(own_key, params),
                tolerance,
            ),
            "environments under jax.vmap differ from the same ones in a loop",
            "write step_env for one environment, without axes or sums that assume a batch",
        )


def check_wrappers(env: Environment, params: PyTree, key: Key) -> None:
    """gymnax's `LogWrapper` and, on a ``Box``, `FlattenObservationWrapper` run on it."""
    flat = isinstance(env.observation_space(params), spaces.Box)
    wrapped = FlattenObservationWrapper(LogWrapper(env)) if flat else LogWrapper(env)
    reset_key, action_key, step_key = jax.random.split(key, 3)
    action = env.action_space(params).sample(action_key)
    try:
        _, state = wrapped.reset(reset_key, params)
        wrapped.step(step_key, state, action, params)
    except Exception as error:
        raise AssertionError(
            f"a wrapper of gymnax fails on it ({error}): keep the signatures reset(key, params) "
            "and step(key, state, action, params) and let info be a dict"
        ) from error


def check_transition_gradients(env: Environment, params: PyTree, key: Key) -> None:
    """Where it claims gradients of transitions, they are finite and not all zero.

    Gradients of the next state and observation by state and action; the reward need not have one.
    """
    if not env.supports_transition_gradients:
        return
    env = env.with_transition_gradients()
    reset_key, action_key, step_key, key = jax.random.split(key, 4)
    _, state = env.reset_env(reset_key, params)
    leaves, treedef = jax.tree.flatten((state, env.action_space(params).sample(action_key)))
    floats = [leaf for leaf in leaves if _is_float(leaf)]

    def transition(floats: list[Array]) -> list[Array]:
        values = iter(floats)
        state, action = jax.tree.unflatten(
            treedef, [next(values) if _is_float(x) else x for x in leaves]
        )
        observation, state, *_ = env.step_env(step_key, state, action, params)
        return [leaf for leaf in jax.tree.leaves((observation, state)) if _is_float(leaf)]

    outputs, pull_back = jax.vjp(transition, floats)
    keys = jax.random.split(key, len(outputs))
    # Random directions: a plain sum could have no gradient, as that of probabilities.
    directions = [
        jax.random.normal(k, out.shape, out.dtype) for k, out in zip(keys, outputs, strict=True)
    ]
    gradients = jax.tree.leaves(pull_back(directions))
    _require(
        all(bool(jnp.all(jnp.isfinite(gradient))) for gradient in gradients),
        "a gradient of the transition is not finite",
        "guard square roots, divisions and norms at zero (jnp.where inside, not after)",
    )
    _require(
        any(bool(jnp.any(gradient != 0)) for gradient in gradients),
        "supports_transition_gradients is set but every gradient is zero",
        "detach through _apply_transition_gradient_policy alone, or do not set it",
    )


def _require(holds: bool, breach: str, cure: str) -> None:
    if not holds:
        raise AssertionError(f"{breach}: {cure}")


def _require_in_space(value: PyTree, space: spaces.Space, what: str) -> None:
    """Shape, dtype, finiteness and bounds, entry by entry of a ``Dict`` or ``Tuple``."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces
        names = parts.keys() if isinstance(space, spaces.Dict) else range(len(parts))
        for name in names:
            _require_in_space(value[name], parts[name], f"{what}[{name!r}]")
        return
    value = jnp.asarray(value)
    _require(
        value.shape == tuple(space.shape) and value.dtype == space.dtype,
        f"the {what} is {value.dtype}{list(value.shape)}, its space says {space}",
        "make the space describe what the environment returns",
    )
    _require(bool(jnp.all(jnp.isfinite(value))), f"the {what} is not finite", "guard overflows")
    _require(
        bool(space.contains(value)),
        f"the {what} leaves the bounds of {space}",
        "widen the bounds, or clip",
    )


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating)


def _close(actual: PyTree, expected: PyTree, tolerance: float) -> bool:
    """Same structure, shapes and, up to rounding of floats, values."""

    def close(one: Any, other: Any) -> bool:
        one, other = _plain(one), _plain(other)
        same = one.shape == other.shape
        return same and np.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)

    if leaf_paths(actual) != leaf_paths(expected):
        return False
    return jax.tree.all(jax.tree.map(close, actual, expected))


def _plain(leaf: Any) -> np.ndarray:
    """As a NumPy array that can be compared; a typed key as its bits."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf, np.float64)
