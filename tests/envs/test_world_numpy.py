"""MaskWorld and ShiftWorld against the reference in `numpy_world`."""

import itertools
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.parametrization import LowRank, PerColumn, PerRow, PerWeight
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny
from tests.envs.numpy_world import KINDS, OPERATORS, NumpyWorld, mlp

WORLDS = {"mask": MaskWorld, "shift": ShiftWorld}
PARAMETRIZATIONS = (LowRank(3), PerWeight(), PerRow(), PerColumn())
WEIGHTS = {"utility": 0.7, "forgetting": 1.5, "edit_size": 0.2}
# Every operator with every parametrization; sites, networks, requests and rewards take turns.
CASES = [
    (operator, parametrization, site, hidden, classes, kind)
    for (operator, parametrization), site, hidden, classes, kind in zip(
        itertools.product(OPERATORS, PARAMETRIZATIONS),
        itertools.cycle(["fc2/kernel", ("fc1/kernel", "fc2/bias"), "head/*"]),
        itertools.cycle([(5, 4), (2, 7), (2, 7), (5, 4)]),
        itertools.cycle([0, (1, 2), 2]),
        itertools.cycle(KINDS[:1] * 3 + KINDS[1:] * 2),
        strict=False,
    )
]


@lru_cache
def _world(case):
    operator, parametrization, site, hidden, classes, kind = case
    reward = unlearning_reward(kind, **WEIGHTS)
    task = tiny.task(classes, base=tiny.subject(3, hidden), site=site, reward=reward)
    # The longest episode; the params of a test make shorter ones of it.
    return task, WORLDS[operator](task, parametrization=parametrization, horizon=4)


# Both operators, with two parametrizations each, every site and kind of reward.
@settings(deadline=None, max_examples=12)
@given(case=st.sampled_from(CASES[::2]), horizon=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_episodes_agree(case, horizon, seed):
    _episodes_agree(case, horizon, seed)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(case=st.sampled_from(CASES), horizon=st.integers(1, 4), seed=st.integers(0, 2**32 - 1))
def test_episodes_of_every_parametrization_agree(case, horizon, seed):
    _episodes_agree(case, horizon, seed)


def _episodes_agree(case, horizon, seed):
    task, env = _world(case)
    operator, parametrization, *_, kind = case
    params = env.default_params.replace(max_steps_in_episode=jnp.int32(horizon))
    reference = NumpyWorld(task, operator, parametrization, horizon, kind, WEIGHTS)
    close = {"rtol": 1e-3, "atol": 1e-4}

    key = jax.random.key(0)
    observation, state = env.reset(key, params)
    np.testing.assert_allclose(observation, reference.observation(), **close)
    rng = np.random.default_rng(seed)
    for _ in range(horizon):
        action = rng.normal(scale=0.7, size=env.num_actions).astype(np.float32)
        observation, reward, done = reference.step(action)
        _, state, actual_reward, terminated, truncated, info = env.step(
            key, state, jnp.asarray(action), params
        )
        np.testing.assert_allclose(info["final_observation"], observation, **close)
        np.testing.assert_allclose(actual_reward, reward, **close)
        np.testing.assert_allclose(info["score"], reference.score, **close)
        for name, part in reference.parts.items():
            np.testing.assert_allclose(info[f"part_{name}"], part, **close)
        assert bool(terminated) == done and not bool(truncated)
    assert done


def test_reference_forward_pass_equals_the_network():
    subject = tiny.subject(3, (2, 7))
    x = jnp.asarray(tiny.splits().reward.x)
    world = NumpyWorld(tiny.task(base=subject), "mask", PerWeight(), 1, "soft", WEIGHTS)
    np.testing.assert_allclose(mlp(world.params, x), subject.apply(subject.params, x), atol=1e-5)
