"""Searches of evosax on a quadratic world, and what is said where evosax is missing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search import evosax_search
from modeledit_jax.editors.search.evosax_search import PGPE, SepCMAES
from modeledit_jax.editors.search.search import run_updates
from modeledit_jax.run.edit_many import edit_many
from tests import tiny
from tests.editors import bowl

KEY = jax.random.key(3)
BOWL = bowl.world()


def _first_update(search):
    """State before and after one update, and its candidates with their rewards by hand."""
    state = search.init(BOWL, BOWL.default_params, KEY)
    after, _ = run_updates(search, BOWL, BOWL.default_params, state, 1)
    ask_key = jax.random.split(state.key, 3)[0]
    made, settings = search._made(state.inner.mean, state.inner.generation_counter)
    actions = np.asarray(made.ask(ask_key, state.inner, settings)[0], np.float64)
    return np.asarray(state.inner.mean, np.float64), after, actions, bowl.reward(actions)


@pytest.mark.slow
def test_an_update_of_pgpe_steps_up_the_ranks():
    search = PGPE(population=8, std=0.2, learning_rate=0.05, budget=80)
    mean, after, actions, rewards = _first_update(search)
    np.testing.assert_allclose(actions[:4] - mean, mean - actions[4:], atol=1e-5)
    np.testing.assert_allclose(np.std(actions - mean), 0.2, rtol=0.2)
    ranks = np.argsort(np.argsort(rewards)) / 7 - 0.5
    ascent = (ranks[:4] - ranks[4:]) @ (actions[:4] - mean)
    # The first step of Adam is one learning rate long in every entry.
    expected = mean + 0.05 * np.sign(ascent)
    np.testing.assert_allclose(after.inner.mean, expected, atol=2e-4)


@pytest.mark.slow
def test_an_update_of_sep_cma_es_recombines_the_better_half():
    search = SepCMAES(population=8, std=0.2, budget=80)
    _, after, actions, rewards = _first_update(search)
    weights = np.log(4.5) - np.log(np.arange(1, 5))
    best = actions[np.argsort(-rewards)[:4]]
    np.testing.assert_allclose(after.inner.mean, weights / weights.sum() @ best, atol=1e-4)
    # A diagonal of 20 entries is learned 22/3 times as fast as a matrix.
    made, settings = search._made(jnp.zeros(20), jnp.int32(0))
    np.testing.assert_allclose(settings.c_1, made.default_params.c_1 * 22 / 3, rtol=1e-5)
    assert settings.c_1 + settings.c_mu <= 1 and settings.std_init == np.float32(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [PGPE, SepCMAES])
def test_they_climb_and_count_evaluations(kind):
    search = kind(budget=1_999, population=20)
    state = search.init(BOWL, BOWL.default_params, KEY)
    state, trace = run_updates(search, BOWL, BOWL.default_params, state, search.updates)
    plan = np.asarray(search.plan(BOWL, BOWL.default_params, state))
    assert plan.shape == (1, bowl.SIZE)
    assert bowl.reward(plan)[0] > 0.9 * bowl.reward(bowl.TARGET[None])[0]
    assert search.updates == 99 and search.cost.reward_evaluations == 1_980
    assert set(trace.metrics) == {"score", "best_score", "invalid_reward"}


@pytest.mark.slow
def test_many_tasks_side_by_side_are_each_as_alone():
    search = SepCMAES(budget=40, population=4)
    tasks = [tiny.task(0), tiny.task(1)]
    keys = jax.random.split(KEY, 2)
    found = edit_many(search, tasks, keys)
    alone = search.edit(tasks[1], keys[1])
    np.testing.assert_allclose(
        found[1].params["fc2"]["kernel"], alone.params["fc2"]["kernel"], rtol=1e-4, atol=1e-5
    )


def test_a_missing_evosax_and_an_odd_population_are_named(monkeypatch):
    with pytest.raises(ValueError, match="even population of at least 2: 5"):
        PGPE(population=5)
    monkeypatch.setattr(evosax_search, "_is_installed", lambda: False)
    with pytest.raises(ValueError, match=r"SepCMAES is of evosax: pip install 'modeledit-jax\[evo"):
        SepCMAES()
