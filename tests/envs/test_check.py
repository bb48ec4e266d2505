"""Every contract of `check_env` is broken once, on purpose, and has to be named."""

from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict
from gymnax.environments import spaces
from gymnax.environments.environment import Environment, EnvParams, EnvState

from modeledit_jax import struct
from modeledit_jax.envs.check import check_env

KEY = jax.random.key(0)
LENGTH = 4
GENERATOR = np.random.default_rng(0)


@struct.dataclass
class WalkState(EnvState):
    time: Any  # [] int32
    place: Any  # [2] float32


@struct.dataclass
class WalkParams(EnvParams):
    max_steps_in_episode: Any = LENGTH
    stride: Any = 0.5


class Walk(Environment[WalkState, WalkParams]):
    """Walks from the origin for four steps; reward is minus the distance. A good environment."""

    _supports_transition_gradients = True

    @property
    def default_params(self):
        return WalkParams()

    def reset_env(self, key, params):
        state = WalkState(time=jnp.int32(0), place=jnp.zeros(2))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        place = state.place + params.stride * action
        state = WalkState(time=state.time + 1, place=place)
        reward = -jnp.square(place).sum()
        observation = self.observe(key, state, action, params)
        observation, state = self._apply_transition_gradient_policy(observation, state)
        return observation, state, reward, self.is_terminated(state, params), {}

    def observe(self, key, state, action, params):
        return state.place

    def is_terminated(self, state, params):
        return jnp.bool_(False)

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (2,), jnp.float32)

    def observation_space(self, params):
        return spaces.Box(-2.0, 2.0, (2,), jnp.float32)


class RandomStart(Walk):
    """Random start, typed key in the state, early end, dictionary observation: all allowed."""

    @struct.dataclass
    class State(EnvState):
        time: Any
        place: Any
        key: Any

    def reset_env(self, key, params):
        place = jax.random.uniform(key, (2,))
        state = self.State(time=jnp.int32(0), place=place, key=key)
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        place = state.place + jnp.where(action == 1, 0.5, -0.5)
        state = self.State(time=state.time + 1, place=place, key=jax.random.split(state.key)[0])
        terminated = self.is_terminated(state, params)
        observation = self.observe(key, state, action, params)
        observation, state = self._apply_transition_gradient_policy(observation, state)
        return observation, state, jnp.float32(1.0), terminated, {}

    def observe(self, key, state, action, params):
        return {"place": state.place, "time": state.time}

    def is_terminated(self, state, params):
        return state.place[0] > 1.2

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        place = spaces.Box(-5.0, 5.0, (2,), jnp.float32)
        return spaces.Dict({"place": place, "time": spaces.Discrete(LENGTH + 1)})


@pytest.mark.slow
def test_a_good_environment_passes():
    check_env(Walk(), key=KEY, episode_length=LENGTH)
    check_env(RandomStart(), WalkParams(max_steps_in_episode=3), key=KEY, num_steps=12)


@pytest.mark.slow
def test_an_environment_of_gymnax_passes():
    env, params = gymnax.make("CartPole-v1")
    check_env(env, params.replace(max_steps_in_episode=6), key=KEY)


class FloatTime(Walk):
    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(time=jnp.float32(0))

    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state, action, params)
        return observation, state.replace(time=state.time.astype(jnp.int32)), *rest


class ForgetsField(Walk):
    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state, action, params)
        return observation, state.replace(place=None), *rest


class SixValuesFromStepEnv(Walk):
    def step_env(self, key, state, action, params):
        *values, info = super().step_env(key, state, action, params)
        return *values, jnp.bool_(False), info


class FiveValuesFromStep(Walk):
    def step(self, key, state, action, params=None):
        observation, state, reward, terminated, truncated, info = super().step(
            key, state, action, params
        )
        return observation, state, reward, terminated | truncated, info


class WeakTime(Walk):
    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(time=0)

    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state, action, params)
        return observation, state.replace(time=jnp.asarray(state.time, jnp.int32)), *rest


class VectorReward(Walk):
    def step_env(self, key, state, action, params):
        observation, state, _, terminated, info = super().step_env(key, state, action, params)
        return observation, state, -jnp.square(state.place), terminated, info


class FloatDone(Walk):
    def step(self, key, state, action, params=None):
        *values, terminated, truncated, info = super().step(key, state, action, params)
        return *values, terminated.astype(jnp.float32), truncated, info


class LosesFinalObservation(Walk):
    def step(self, key, state, action, params=None):
        *values, info = super().step(key, state, action, params)
        return *values, {name: info[name] for name in ("terminated", "truncated")}


class ShowsResetAsFinalObservation(Walk):
    def step(self, key, state, action, params=None):
        observation, *values, info = super().step(key, state, action, params)
        return observation, *values, {**info, "final_observation": observation}


class WrongSpace(Walk):
    def observation_space(self, params):
        return spaces.Box(-2.0, 2.0, (3,), jnp.float32)


class NarrowSpace(Walk):
    def observation_space(self, params):
        return spaces.Box(-0.1, 0.1, (2,), jnp.float32)


class UnboundedObservation(Walk):
    def observe(self, key, state, action, params):
        return state.place / jnp.where(state.time == 2, 0.0, 1.0)

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,), jnp.float32)


class NaNReward(Walk):
    def step_env(self, key, state, action, params):
        observation, state, reward, *rest = super().step_env(key, state, action, params)
        return observation, state, jnp.where(state.time == 3, jnp.nan, reward), *rest


class NeverEnds(Walk):
    def is_truncated(self, state, params):
        return jnp.bool_(False)


class EndsEarly(Walk):
    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode - 1


class KeepsPlaceOnReset(Walk):
    def step(self, key, state, action, params=None):
        observation, after, *values, info = super().step(key, state, action, params)
        after = after.replace(place=info["final_observation"])
        return observation, after, *values, info


class PythonState(Walk):
    calls = 0

    def step_env(self, key, state, action, params):
        self.calls += 1
        observation, state, reward, *rest = super().step_env(key, state, action, params)
        return observation, state, reward + self.calls, *rest


class NumPyRandomness(Walk):
    def reset_env(self, key, params):
        observation, state = super().reset_env(key, params)
        return observation, state.replace(place=jnp.asarray(GENERATOR.random(2), jnp.float32))


@jax.custom_batching.custom_vmap
def _wrong_in_batches(x):
    return x


@_wrong_in_batches.def_vmap
def _(axis_size, in_batched, x):
    return x + jnp.arange(float(axis_size)), in_batched[0]


class WrongInBatches(Walk):
    def step_env(self, key, state, action, params):
        observation, state, reward, *rest = super().step_env(key, state, action, params)
        return observation, state, _wrong_in_batches(reward), *rest


class FrozenInfo(Walk):
    def step(self, key, state, action, params=None):
        *values, info = super().step(key, state, action, params)
        return *values, FrozenDict(info)


class ClaimsGradients(Walk):
    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state, action, params)
        return *jax.lax.stop_gradient((observation, state)), *rest


class GradientOfRootAtZero(Walk):
    def step_env(self, key, state, action, params):
        observation, state, *rest = super().step_env(key, state, action, params)
        still = 0.0 * jnp.sqrt(jnp.square(action * 0.0).sum())
        return observation + still, state, *rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "breach"),
    [
        (FloatTime, r"the state time is float32\[\] after reset_env and int32\[\] after step_env"),
        (
            ForgetsField,
            r"the state has the entries \('time', 'place'\) after reset_env, \('time',\) after",
        ),
        (SixValuesFromStepEnv, "step_env returned 6 values instead of five"),
        (FiveValuesFromStep, "env.step returned 5 values instead of six"),
        (WeakTime, "env.step was traced 2 times"),
        (VectorReward, r"the reward is float32\[2\], not a float scalar"),
        (FloatDone, r"terminated is float32\[\], not a bool scalar"),
        (LosesFinalObservation, "info lacks 'final_observation'"),
        (ShowsResetAsFinalObservation, "is not the observation that the episode ended with"),
        (WrongSpace, r"the observation is float32\[2\], its space says Box.*shape=\(3,\)"),
        (NarrowSpace, "the observation leaves the bounds"),
        (UnboundedObservation, "the observation is not finite"),
        (NaNReward, "the reward is nan"),
        (NeverEnds, "goes on after max_steps_in_episode = 4"),
        (EndsEarly, "done is True at step 3 of an episode of 4 steps"),
        (KeepsPlaceOnReset, "is not that of a fresh reset"),
        (PythonState, "step_env differs between compiled and eager calls"),
        (NumPyRandomness, "reset_env differs between compiled and eager calls"),
        (WrongInBatches, "environments under jax.vmap differ"),
        (FrozenInfo, "a wrapper of gymnax fails on it .*let info be a dict"),
        (ClaimsGradients, "supports_transition_gradients is set but every gradient is zero"),
        (GradientOfRootAtZero, "a gradient of the transition is not finite"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_breach_is_named_with_its_cure(broken, breach):
    with pytest.raises(AssertionError, match=breach) as error:
        check_env(broken(), key=KEY, episode_length=LENGTH)
    assert ": " in str(error.value)  # breach: cure


def test_ends_are_not_left_unchecked():
    with pytest.raises(AssertionError, match="no episode ended within 2 steps"):
        check_env(Walk(), key=KEY, num_steps=2)
