"""Probe environments: each isolates one thing that a reinforcement-learning agent must get right.

After Andy Jones, "Debugging RL, without the agonizing pain" (2021). An agent that fails one of
them is wrong in the part that the probe adds to the one before.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class ProbeState:
    time: Any  # () int32
    signal: Any  # () float32, −1 or 1


@struct.dataclass
class ProbeParams:
    max_steps_in_episode: Any = 100
    reward_scale: Any = 1.0


class Probe(environment.Environment[ProbeState, ProbeParams]):
    """One step with a constant observation; subclasses override what they add."""

    horizon = 1  # steps until the episode terminates

    def __init__(self, continuous: bool = False) -> None:
        super().__init__()
        self.continuous = continuous

    @property
    def default_params(self) -> ProbeParams:
        return ProbeParams()

    def reward(self, state, action):
        return jnp.float32(1.0)

    def observe(self, key, state, action, params):
        return jnp.zeros(1)

    def reset_env(self, key, params):
        signal = jax.random.choice(key, jnp.array([-1.0, 1.0]))
        state = ProbeState(time=0, signal=signal)
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        reward = self.reward(state, action) * params.reward_scale
        state = state.replace(time=state.time + 1)
        terminated = self.is_terminated(state, params)
        info = {"doubled": 2.0 * reward, "terminal": terminated, "vector": jnp.zeros(3)}
        return self.observe(key, state, action, params), state, reward, terminated, info

    def is_terminated(self, state, params):
        return state.time >= self.horizon

    def action_space(self, params):
        if self.continuous:
            return spaces.Box(-2.0, 2.0, (1,), jnp.float32)
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,), jnp.float32)


class ConstantReward(Probe):
    """Reward 1: the value of the only observation is 1."""


class ObservationValue(Probe):
    """Reward is the observation, −1 or 1: the value must read the observation."""

    def observe(self, key, state, action, params):
        return state.signal[None]

    def reward(self, state, action):
        return state.signal


class DiscountedReward(Probe):
    """Reward 1 in the second of two steps: the first has the value γ."""

    horizon = 2

    def observe(self, key, state, action, params):
        return jnp.asarray(state.time, jnp.float32)[None]

    def reward(self, state, action):
        return jnp.where(state.time == 1, 1.0, 0.0)


class ActionReward(Probe):
    """Action 1 earns 1 and action 0 earns −1; continuous: 1 − (a − 0.5)²."""

    def reward(self, state, action):
        if self.continuous:
            return 1.0 - jnp.square(action[0] - 0.5)
        return jnp.where(action == 1, 1.0, -1.0)


class ObservationActionReward(ObservationValue):
    """Action 1 is right if the observation is 1, action 0 if −1; continuous: 1 − (a − signal)²."""

    def reward(self, state, action):
        if self.continuous:
            return 1.0 - jnp.square(action[0] - state.signal)
        return jnp.where((action == 1) == (state.signal > 0), 1.0, -1.0)


class Endless(Probe):
    """Reward 1 forever: it never terminates, only the time limit truncates it."""

    def is_terminated(self, state, params):
        return jnp.bool_(False)


class Clock(Endless):
    """Observes and rewards the time of the episode; truncated by the limit."""

    def observe(self, key, state, action, params):
        return jnp.asarray(state.time, jnp.float32)[None]

    def reward(self, state, action):
        return jnp.asarray(state.time, jnp.float32)


class EchoAction(Probe):
    """Rewards the action as it arrives, to see what the environment was given."""

    def reward(self, state, action):
        return action[0]


class Rows(Probe):
    """Observation {"rows": [4, 2]}, action [4]: row i asks for the action x_i0."""

    def __init__(self) -> None:
        super().__init__(continuous=True)

    def observe(self, key, state, action, params):
        return {"rows": jnp.linspace(-0.5, 0.5, 8).reshape(4, 2) * state.signal}

    def reward(self, state, action):
        return 1.0 - jnp.square(action - self.observe(None, state, None, None)["rows"][:, 0]).sum()

    def action_space(self, params):
        return spaces.Box(-2.0, 2.0, (4,), jnp.float32)
