"""Random search, OpenES and SNES against NumPy on a quadratic world."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.editors.search.evolution import (
    SNES,
    OpenES,
    RandomSearch,
    antithetic_normal,
    centered_ranks,
    evaluate_population,
    snes_utilities,
    step_decay,
)
from modeledit_jax.editors.search.search import run_updates
from tests.editors import bowl

KEY = jax.random.key(3)
BOWL = bowl.world()
# One program for each size.
ranks_of, snes_utilities_of = jax.jit(centered_ranks), jax.jit(snes_utilities)
REWARDS = st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, 7.0]), min_size=7, max_size=7)


def utilities(rewards):
    """SNES utilities by sorting; equal rewards share the mean of the places they take."""
    rewards = np.asarray(rewards, np.float64)
    size = len(rewards)
    raw = np.maximum(0, np.log(size / 2 + 1) - np.log(np.arange(1, size + 1)))
    places = raw / raw.sum() - 1 / size
    by_place = places[np.argsort(np.argsort(-rewards, kind="stable"), kind="stable")]
    return np.array([by_place[rewards == reward].mean() for reward in rewards])


@jax.jit
def search_bowl(search):
    """Final state and trace of a search on the quadratic world, when its budget is spent."""
    state = search.init(BOWL, BOWL.default_params, KEY)
    return run_updates(search, BOWL, BOWL.default_params, state, search.updates)


@settings(deadline=None, max_examples=25)
@given(rewards=REWARDS)
def test_centered_ranks_are_mean_ranks_scaled_to_one(rewards):
    expected = (scipy.stats.rankdata(rewards) - 1) / (len(rewards) - 1) - 0.5
    np.testing.assert_allclose(ranks_of(jnp.array(rewards)), expected, atol=1e-6)


def test_centered_ranks_by_hand():
    ranks = ranks_of(jnp.array([3.0, -1.0, 3.0, 8.0, 2.0]))
    np.testing.assert_allclose(ranks, [0.125, -0.5, 0.125, 0.5, -0.25], atol=1e-7)
    np.testing.assert_array_equal(ranks_of(jnp.array([0.3] * 5)), 0.0)


@settings(deadline=None, max_examples=25)
@given(rewards=REWARDS)
def test_snes_utilities_agree_with_sorting(rewards):
    found = snes_utilities_of(jnp.array(rewards))
    np.testing.assert_allclose(found, utilities(rewards), atol=1e-6)
    np.testing.assert_allclose(np.sum(found), 0.0, atol=1e-6)


def test_snes_utilities_by_hand():
    # E = 4: ln 3 − ln k is 1.0986, 0.4055, 0, (−0.2877 →) 0, whose sum is 1.5041.
    best_first = np.array([1.0986, 0.4055, 0.0, 0.0]) / 1.5041 - 0.25
    found = snes_utilities_of(jnp.array([0.1, 5.0, -2.0, 0.7]))
    np.testing.assert_allclose(found, best_first[[2, 0, 3, 1]], atol=1e-4)
    np.testing.assert_allclose(snes_utilities_of(jnp.array([2.0] * 4)), 0.0, atol=1e-7)


def test_draws_come_in_mirrored_pairs():
    draws = np.asarray(antithetic_normal(KEY, 4000, 3))
    np.testing.assert_array_equal(draws[2000:], -draws[:2000])
    assert scipy.stats.kstest(draws[:2000].ravel(), "norm").pvalue > 0.01
    assert not np.array_equal(draws, antithetic_normal(jax.random.key(4), 4000, 3))


@pytest.mark.parametrize("search", [OpenES, SNES])
@pytest.mark.parametrize("population", [0, 1, 7])
def test_a_population_that_cannot_be_mirrored_is_refused(search, population):
    with pytest.raises(ValueError, match=f"even population of at least 2: {population}"):
        search(population=population)


def test_decay_goes_to_zero_and_stays_there():
    found = [float(step_decay(jnp.int32(n), 8)) for n in (0, 2, 8, 99)]
    assert found == [1.0, 0.5625, 0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OpenES, SNES])
def test_steps_shrink_over_the_budget(kind):
    """After half of the updates a step has a quarter of its length, after all of them none."""
    search = kind(population=6, budget=6 * 8 + 5)
    run = jax.jit(partial(search.update, BOWL))
    state = search.init(BOWL, BOWL.default_params, KEY)
    steps = [
        run(BOWL.default_params, replace(state, updates=jnp.int32(done)))[0].mean - state.mean
        for done in (0, 4, 8, 9)
    ]
    np.testing.assert_allclose(steps[1], 0.25 * steps[0], rtol=1e-5, atol=1e-7)
    assert np.any(steps[0]) and not np.any(steps[2]) and not np.any(steps[3])


@pytest.mark.parametrize("search", [OpenES(), SNES(), RandomSearch()])
def test_more_than_one_edit_an_episode_is_refused(search):
    with pytest.raises(ValueError, match="the world has horizon 2: set horizon=1, or use PPO"):
        search.init(bowl.world(2), bowl.world(2).default_params, KEY)


def test_rewards_of_a_population_and_their_metrics():
    env = BOWL
    actions = np.random.default_rng(1).normal(size=(7, bowl.SIZE)).astype(np.float32)
    evaluate = jax.jit(partial(evaluate_population, env))
    rewards, metrics = evaluate(env.default_params, jnp.asarray(actions))
    np.testing.assert_allclose(rewards, bowl.reward(actions), rtol=1e-4, atol=1e-4)
    scores = bowl.reward(actions) - (bowl.TARGET**2).sum()
    np.testing.assert_allclose(metrics["score"], scores.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["best_score"], scores.max(), rtol=1e-5)
    assert metrics["invalid_reward"] == 0.0


def test_snes_step_equals_numpy():
    env, search = BOWL, SNES(learning_rate=0.7, std=0.4, population=8, budget=80)
    rng = np.random.default_rng(2)
    mean, std = rng.normal(size=bowl.SIZE), rng.uniform(0.1, 0.5, size=bowl.SIZE)
    state = replace(
        search.init(env, env.default_params, KEY),
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(std, jnp.float32),
        updates=jnp.int32(3),
    )
    after, _ = jax.jit(partial(search.update, env))(env.default_params, state)

    noise = np.asarray(antithetic_normal(jax.random.split(state.key)[1], 8, bowl.SIZE), np.float64)
    weights = utilities(bowl.reward(mean + std * noise))
    rate = (3 + np.log(bowl.SIZE)) / (5 * np.sqrt(bowl.SIZE))
    moved = mean + 0.7 * 0.7**2 * std * (weights @ noise)  # step 0.7, after 3 updates of 10
    np.testing.assert_allclose(after.mean, moved, atol=1e-5)
    spread = std * np.exp(rate / 2 * (weights @ (noise**2 - 1)))
    np.testing.assert_allclose(after.std, spread, rtol=1e-5)
    assert after.updates == 4 and after.key != state.key
    np.testing.assert_array_equal(
        search.plan(env, env.default_params, after), np.asarray(after.mean)[None]
    )


def test_two_openes_steps_equal_numpy():
    env, search = BOWL, OpenES(learning_rate=0.2, std=0.4, population=6, budget=24)
    state = search.init(env, env.default_params, KEY)
    mean, first, second = np.zeros(bowl.SIZE), 0.0, 0.0
    update = jax.jit(partial(search.update, env))
    for step in (1, 2):
        key = jax.random.split(state.key)[1]
        state, _ = update(env.default_params, state)
        noise = np.asarray(antithetic_normal(key, 6, bowl.SIZE), np.float64)
        ranks = scipy.stats.rankdata(bowl.reward(mean + 0.4 * noise))
        gradient = ((ranks - 1) / 5 - 0.5) @ noise / (6 * 0.4)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        ascent = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        mean = mean + 0.2 * (1 - (step - 1) / 4) ** 2 * ascent
        np.testing.assert_allclose(state.mean, mean, atol=1e-5)
        np.testing.assert_allclose(state.std, 0.4)


@pytest.mark.parametrize("kind", [pytest.param(OpenES, marks=pytest.mark.slow), SNES])
def test_the_search_starts_where_it_is_told_to(kind):
    """Around the bottom of the bowl every candidate is as far away as its noise."""
    start = jnp.asarray(bowl.TARGET)
    search = kind(std=0.01, population=6, start=start)
    state = _started(search, start)
    noise_key = jax.random.split(state.key)[1]
    np.testing.assert_array_equal(search.plan(BOWL, BOWL.default_params, state), start[None])
    np.testing.assert_allclose(state.std, np.full(bowl.SIZE, 0.01), rtol=1e-6)
    state, trace = search_bowl(replace(search, learning_rate=0.0, budget=6))
    np.testing.assert_array_equal(state.mean, start)
    noise = np.asarray(antithetic_normal(noise_key, 6, bowl.SIZE))
    scores = -((0.01 * noise) ** 2).sum(axis=1)
    np.testing.assert_allclose(trace.metrics["score"][0], scores.mean(), rtol=1e-2)
    # Numbers of a start can be swept, as all others.
    starts = jnp.stack([start, 2 * start])
    means = jax.vmap(lambda one: _started(search, one).mean)(starts)
    np.testing.assert_array_equal(means, starts)


def _started(search, start):
    return replace(search, start=start).init(BOWL, BOWL.default_params, KEY)


@pytest.mark.parametrize("search", [OpenES(budget=3000), SNES(budget=3000)])
def test_evolution_finds_the_bottom_of_a_bowl(search):
    state, trace = search_bowl(search)
    distance = np.linalg.norm(trace.plans[:, 0] - bowl.TARGET, axis=1)
    assert distance[-1] < 0.15 * np.linalg.norm(bowl.TARGET)
    np.testing.assert_array_equal(trace.plans[-1, 0], state.mean)
    assert trace.metrics["score"][-1] > trace.metrics["score"][0]


def test_random_search_keeps_the_best_it_has_drawn():
    search = RandomSearch(std=0.5, population=6, budget=72)
    state, trace = search_bowl(search)
    rewards = bowl.reward(np.asarray(trace.plans[:, 0], np.float64))
    assert np.all(np.diff(rewards) >= 0) and rewards[-1] > rewards[0] > 0
    np.testing.assert_allclose(rewards[-1], state.optimizer, rtol=1e-4)
    best = np.maximum.accumulate(trace.metrics["best_score"]) + (bowl.TARGET**2).sum()
    np.testing.assert_allclose(rewards, best, rtol=1e-4)


def test_random_search_starts_with_no_edit_and_keeps_it_where_nothing_is_better():
    search = RandomSearch(std=50.0, population=6, budget=72)  # far over the rim of the bowl
    env = BOWL
    start = search.init(env, env.default_params, KEY)
    assert not np.any(search.plan(env, env.default_params, start))
    state, trace = search_bowl(search)
    assert not np.any(trace.plans) and state.optimizer == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("search", "numbers"),
    [
        (SNES(population=4, budget=12), {"learning_rate": [1.0, 0.3], "std": [0.3, 0.6]}),
        (OpenES(population=4, budget=12), {"learning_rate": [0.1, 0.02], "std": [0.3, 0.6]}),
    ],
)
def test_numbers_can_be_swept(search, numbers):
    swept = replace(search, **{name: jnp.array(values) for name, values in numbers.items()})
    means = jax.vmap(lambda one: search_bowl(one)[0].mean)(swept)
    for index in range(2):
        own = replace(search, **{name: values[index] for name, values in numbers.items()})
        np.testing.assert_allclose(means[index], search_bowl(own)[0].mean, atol=1e-5)
    assert np.abs(means[0] - means[1]).max() > 1e-3
