"""Worlds are equal by their static parts, so that one program serves all; numbers never mix.

Two tasks of equal shapes differ in network, data, request and weights of the reward. Whatever is
compiled for one and found again for the other has to use the other's numbers.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from gymnax.wrappers import GymnaxToGymWrapper, LegacyStepAPIWrapper, LogWrapper

from modeledit_jax.editors.search.evolution import RandomSearch
from modeledit_jax.edits.parametrization import LowRank, PerRow
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
UTILITY = {0: 1.0, 1: 0.25}


def task(index):
    reward = unlearning_reward("soft", utility=UTILITY[index])
    return tiny.task((0, 2)[index], seed=9 * index, base=tiny.subject(4 + index), reward=reward)


def world(index, **options):
    return ShiftWorld(task(index), **{"parametrization": PerRow(), "horizon": 2} | options)


ACTION = jnp.linspace(-0.5, 0.8, 5)


def score(index, params):
    """The reward of a network by a plain forward pass and NumPy."""
    sets = task(index).roles["reward"]
    outputs = task(index).subject.apply(params, jnp.asarray(sets.x))
    own = scipy.special.softmax(np.asarray(outputs), axis=1)[np.arange(len(sets.x)), sets.targets]
    keep, gone = (np.average(own, weights=sets.weights[name]) for name in ("retain", "forget"))
    return UTILITY[index] * keep + 1.0 - gone


def expected(index):
    """Score before and after one edit by `ACTION`."""
    params = task(index).subject.params
    kernel = np.asarray(params["fc2"]["kernel"])
    edited = jnp.asarray(kernel + kernel.std() * np.asarray(ACTION)[:, None])
    return score(index, params), score(index, set_leaves(params, {"fc2/kernel": edited}))


def test_worlds_of_equal_shapes_are_equal_but_for_their_task():
    one, two = world(0), world(1)
    assert one.static is not two.static and one.static == two.static == two.static.static
    assert hash(one.static) == hash(two.static) == hash(one)
    assert one != two and one != one.static and one == world_of_the_same_task(one)
    assert len({one.static, two.static, one, two}) == 3


def world_of_the_same_task(env):
    """Built anew, with params of its own already made."""
    again = ShiftWorld(env._task, parametrization=PerRow(), horizon=2)
    _ = again.default_params
    return again


@pytest.mark.parametrize(
    "other",
    [
        world(0, horizon=1),
        world(0, parametrization=LowRank(1)),
        world(0, observation="time"),
        world(0, observation="neurons"),
        MaskWorld(task(0), parametrization=PerRow(), horizon=2),
        ShiftWorld(tiny.task(base=tiny.subject(0, (7, 4))), parametrization=PerRow(), horizon=2),
        ShiftWorld(tiny.task(site="head/kernel"), parametrization=PerRow(), horizon=2),
        world(0).with_transition_gradients(),
    ],
    ids=["horizon", "parametrization", "time", "neurons", "kind", "width", "site", "gradients"],
)
def test_worlds_that_play_in_another_way_are_not_equal(other):
    assert other.static != world(0).static and world(0).static != other.static
    assert world(0) != "world"


def test_what_a_subclass_adds_has_to_be_the_same():
    class Scaled(ShiftWorld):
        def __init__(self, task, scale, **options):
            super().__init__(task, **options)
            self.scale = scale

    scale = jnp.ones(3)
    one, two, other = (Scaled(task(0), s).static for s in (scale, scale, jnp.ones(3)))
    assert one == two and one != other


def test_a_static_world_has_no_numbers_of_its_own():
    env = world(0).static
    with pytest.raises(ValueError, match="a static world has no default params: pass those of a"):
        _ = env.default_params
    for call in (env.reset, jax.jit(env.reset)):
        with pytest.raises(ValueError, match="no default params"):
            call(KEY)
    assert env.static == env and world(0).default_params is not None


def reset_and_step(env, params):
    _, state = env.reset(KEY, params)
    *_, info = env.step(KEY, state, ACTION, params)
    return state.score, info["score"]


def without_params(env):
    return reset_and_step(env, None)


def with_params(env):
    return reset_and_step(env, env.default_params)


def static_with_params(env):
    return reset_and_step(env.static, env.default_params)


_with_static_env = jax.jit(without_params, static_argnums=0)
_with_static_env_and_params = jax.jit(reset_and_step, static_argnums=0)


def env_as_a_static_argument(env):
    """Default params are read while the function is traced, and become constants of it."""
    return _with_static_env(env)


def static_env_and_params(env):
    return _with_static_env_and_params(env.static, env.default_params)


def closure(env):
    return jax.jit(lambda: reset_and_step(env, None))()


def jitted_methods(env):
    _, state = jax.jit(env.reset)(KEY)
    *_, info = jax.jit(env.step)(KEY, state, ACTION)
    return state.score, info["score"]


def vmapped(env):
    found = jax.vmap(partial(reset_and_step, env), axis_size=3, in_axes=None)(env.default_params)
    return found[0][2], found[1][2]


def log_wrapper(env):
    wrapped = LogWrapper(env)
    _, state = wrapped.reset(KEY, None)
    *_, info = wrapped.step(KEY, state, ACTION, None)
    return state.env_state.score, info["score"]


def legacy_wrapper(env):
    wrapped = LegacyStepAPIWrapper(env)
    _, state = wrapped.reset(KEY, None)
    *_, info = wrapped.step(KEY, state, ACTION, None)
    return state.score, info["score"]


def gym_wrapper(env):
    wrapped = GymnaxToGymWrapper(env, seed=0)
    wrapped.reset()
    before = wrapped.env_state.score
    *_, info = wrapped.step(np.asarray(ACTION))
    return before, info["score"]


WAYS = (
    without_params, with_params, static_with_params, env_as_a_static_argument,
    static_env_and_params, closure, jitted_methods, vmapped, log_wrapper, legacy_wrapper,
    gym_wrapper,
)  # fmt: skip
SLOW_WAYS = (
    with_params, static_env_and_params, closure, log_wrapper, legacy_wrapper, gym_wrapper, vmapped
)  # fmt: skip


@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[pytest.mark.slow] if way in SLOW_WAYS else []) for way in WAYS],
    ids=lambda way: way.__name__,
)
@pytest.mark.parametrize(
    "order", [(0, 1, 0), pytest.param((1, 0, 1), marks=pytest.mark.slow)], ids=str
)
def test_equal_worlds_use_their_own_numbers(way, order):
    for index in order:
        np.testing.assert_allclose(way(world(index)), expected(index), rtol=1e-5)
    assert np.abs(np.subtract(expected(0), expected(1))).min() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    "order", [(0, 1, 0), pytest.param((1, 0, 1), marks=pytest.mark.slow)], ids=str
)
def test_searches_in_equal_worlds_use_their_own_numbers(order):
    """The best that random search has met is the score of the network that it returns."""
    search = RandomSearch(population=6, budget=18, std=0.5, parametrization=PerRow())
    for index in order:
        result = search.edit(task(index), KEY)
        best = float(np.max(result.trace.metrics["best_score"]))
        np.testing.assert_allclose(best, score(index, result.params), rtol=1e-5)


def test_params_of_another_task_are_played_as_theirs():
    """A world with a task of its own prefers what it is given."""
    found = reset_and_step(world(0), world(1).default_params)
    np.testing.assert_allclose(found, expected(1), rtol=1e-5)
