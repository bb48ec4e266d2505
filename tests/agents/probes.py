"""Probe environments: each isolates one thing that a reinforcement-learning agent must get right.

After Andy Jones, "Debugging RL, without the agonizing pain" (2021). An agent that fails one of
them is wrong in the part that this probe adds to the one before. They differ in `ProbeParams`
alone, so one `vmap` trains on all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment, spaces

from modeledit_jax import struct

CONSTANT, SIGNAL, TIME, ACTION, SIGNAL_AND_ACTION = range(5)
NEVER = 1_000_000


@struct.dataclass
class ProbeState:
    time: Any  # () int32
    signal: Any  # () float32, −1 or 1


@struct.dataclass
class ProbeParams:
    observed: Any = CONSTANT  # or SIGNAL, TIME; CONSTANT shows 0
    rewarded: Any = CONSTANT  # or any other; CONSTANT earns 1
    horizon: Any = 1  # steps until the episode terminates
    max_steps_in_episode: Any = 100  # steps until it is truncated
    reward_scale: Any = 1.0


class Probe(environment.Environment[ProbeState, ProbeParams]):
    """Observation [1]. Actions are {0, 1}, or the interval −2 … 2 if ``continuous``.

    Rewards of actions: 1 if right and −1 if wrong, where 1 is right (if the signal counts, 0 is
    right for −1); continuous 1 − (a − 0.5)² (if the signal counts, 1 − (a − signal)²).
    """

    def __init__(self, continuous: bool = False) -> None:
        super().__init__()
        self.continuous = continuous

    @property
    def default_params(self) -> ProbeParams:
        return ProbeParams()

    def observe(self, key, state, action, params):
        shown = jnp.array([0.0, state.signal, jnp.asarray(state.time, jnp.float32)])
        return shown[params.observed][None]

    def _reward(self, state, action, params):
        if self.continuous:
            fixed, signalled = (1 - (action[0] - target) ** 2 for target in (0.5, state.signal))
        else:
            fixed, signalled = (
                jnp.where(x, 1.0, -1.0) for x in (action == 1, action == (state.signal > 0))
            )
        time = jnp.asarray(state.time, jnp.float32)
        rewards = jnp.array([1.0, state.signal, time, fixed, signalled])
        return rewards[params.rewarded] * params.reward_scale

    def reset_env(self, key, params):
        state = ProbeState(time=0, signal=jax.random.rademacher(key, (), jnp.float32))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        reward = self._reward(state, action, params)
        state = state.replace(time=state.time + 1)
        terminated = self.is_terminated(state, params)
        info = {"doubled": 2.0 * reward, "terminal": terminated, "vector": jnp.zeros(3)}
        return self.observe(key, state, action, params), state, reward, terminated, info

    def is_terminated(self, state, params):
        return state.time >= params.horizon

    def action_space(self, params):
        if self.continuous:
            return spaces.Box(-2.0, 2.0, (1,), jnp.float32)
        return spaces.Discrete(2)


class EchoAction(Probe):
    """Rewards the continuous action as it arrives, to see what the environment was given."""

    def __init__(self) -> None:
        super().__init__(continuous=True)

    def _reward(self, state, action, params):
        return action[0]


class Rows(EchoAction):
    """Observation {"rows": [4, 2]}, action [4]: the first entry of each row."""

    def observe(self, key, state, action, params):
        return {"rows": jnp.linspace(-0.5, 0.5, 8).reshape(4, 2) * state.signal}

    def _reward(self, state, action, params):
        return 1.0 - jnp.square(action - self.observe(None, state, None, None)["rows"][:, 0]).sum()

    def action_space(self, params):
        return spaces.Box(-2.0, 2.0, (4,), jnp.float32)


CONSTANT_REWARD = ProbeParams()  # the value is 1
OBSERVATION_VALUE = ProbeParams(observed=SIGNAL, rewarded=SIGNAL)  # the value is the observation
DISCOUNTED_REWARD = ProbeParams(observed=TIME, rewarded=TIME, horizon=2)  # rewards 0, then 1
ACTION_REWARD = ProbeParams(rewarded=ACTION)
OBSERVATION_ACTION_REWARD = ProbeParams(observed=SIGNAL, rewarded=SIGNAL_AND_ACTION)
ENDLESS = ProbeParams(horizon=NEVER, max_steps_in_episode=3)  # reward 1, truncated but never over
CLOCK = ProbeParams(observed=TIME, rewarded=TIME, horizon=NEVER, max_steps_in_episode=3)
