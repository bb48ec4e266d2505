"""Searches in chunks: progress, checkpoints, and the same bits however often they were stopped."""

from functools import partial

import chex
import jax
import numpy as np
import pytest
from modeledit_jax.run.loop import final_plans, run_search

from modeledit_jax.editors.search.evolution import SNES, RandomSearch
from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.envs.stacking import stack_params
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.run.checkpoint import load_tree
from tests import tiny

TASKS = [tiny.task(0), tiny.task(2, base=tiny.subject(1))]
ENV = ShiftWorld(TASKS[0], parametrization=PerRow())
PARAMS = stack_params([ENV.params(task) for task in TASKS])
KEYS = jax.random.split(jax.random.key(0), 2)
POPULATION, BUDGET, UPDATES = 4, 39, 9
run = partial(run_search, SNES(population=POPULATION), ENV, PARAMS, KEYS, BUDGET, chunk=3)


class Reports(list):
    """Remembers what was reported and interrupts at a given number of updates."""

    def __init__(self, interrupt_at=None):
        self.interrupt_at = interrupt_at

    def __call__(self, done, total, trace):
        assert total == UPDATES
        self.append((done, trace))
        if done == self.interrupt_at:
            raise KeyboardInterrupt

    @property
    def updates(self):
        return [done for done, _ in self]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder, reports and result of a search in one go."""
    folder, reports = tmp_path_factory.mktemp("whole"), Reports()
    return folder, reports, run(folder=folder, report=reports)


def assert_same_run(folder, found, uninterrupted):
    chex.assert_trees_all_equal(found.trace, uninterrupted[2].trace)
    assert found.cost.reward_evaluations == uninterrupted[2].cost.reward_evaluations
    states = [
        load_tree(at / str(UPDATES) / "default")["state"] for at in (folder, uninterrupted[0])
    ]
    assert "mean" in states[0] and "key" in states[0]
    chex.assert_trees_all_equal(*states)


def test_reports_after_every_chunk_and_a_trace_of_all(uninterrupted):
    _, reports, found = uninterrupted
    assert reports.updates == [3, 6, 9]
    joined = jax.tree.map(
        lambda *parts: np.concatenate(parts, axis=1), *[own for _, own in reports]
    )
    chex.assert_trees_all_equal(joined, found.trace)
    assert found.trace.plans.shape == (2, UPDATES, 1, ENV.num_actions)
    assert found.trace.metrics["score"].shape == (2, UPDATES)
    assert np.unique(found.trace.metrics["score"]).size == 2 * UPDATES
    np.testing.assert_array_equal(final_plans(found), found.trace.plans[:, -1])
    assert found.cost.reward_evaluations == POPULATION * UPDATES
    assert found.cost.gradient_steps == UPDATES and found.cost.seconds > 0


def test_other_chunks_and_no_folder_give_the_same_bits(uninterrupted):
    reports = Reports()
    found = run(chunk=5, report=reports)
    assert reports.updates == [5, 9]
    chex.assert_trees_all_equal(found.trace, uninterrupted[2].trace)


@pytest.mark.parametrize(
    ("save_every", "interrupts", "resumed"),
    [
        (0.0, (6, 9), [9]),
        (60.0, (6,), [3, 6, 9]),  # no checkpoint was due
    ],
)
def test_an_interrupted_search_is_continued_with_the_same_bits(
    tmp_path, uninterrupted, save_every, interrupts, resumed
):
    for at in interrupts:
        with pytest.raises(KeyboardInterrupt):
            run(folder=tmp_path, report=Reports(at), save_every=save_every)
    reports = Reports()
    found = run(folder=tmp_path, report=reports, save_every=save_every)
    assert reports.updates == resumed
    assert_same_run(tmp_path, found, uninterrupted)


def test_a_completed_search_is_not_run_again(uninterrupted):
    folder, _, first = uninterrupted
    reports = Reports()
    again = run(folder=folder, report=reports)
    assert not reports
    assert_same_run(folder, again, uninterrupted)
    assert (
        again.cost.seconds >= 0.5 * first.cost.seconds
    )  # the time of the search, not of this call


@pytest.mark.parametrize(
    ("search", "budget", "keys"),
    [
        (SNES(population=2), BUDGET, KEYS),
        (SNES(population=POPULATION), BUDGET + POPULATION, KEYS),
        (RandomSearch(population=POPULATION), BUDGET, KEYS),
    ],
    ids=["population", "budget", "search"],
)
def test_another_configuration_does_not_resume(uninterrupted, search, budget, keys):
    folder = uninterrupted[0]
    with pytest.raises(ValueError, match="of another configuration; choose another --run-dir"):
        run_search(search, ENV, PARAMS, keys, budget, folder=folder)


def test_a_budget_below_one_update_is_refused():
    with pytest.raises(ValueError, match="does not pay for one update"):
        run_search(SNES(population=4), ENV, PARAMS, KEYS, 3)


def test_a_reward_that_is_no_number_stops_the_search_and_is_not_saved(tmp_path):
    def reward(sets, edit):
        return jax.numpy.where(edit.size() == 0, 0.0, jax.numpy.nan)

    env = ShiftWorld(tiny.task(0, reward=reward), parametrization=PerRow())
    params = stack_params([env.default_params])
    reports = Reports()
    with pytest.raises(ValueError, match="not finite"):
        run_search(SNES(), env, params, KEYS[:1], 200, folder=tmp_path, report=reports)
    assert not reports and not list(tmp_path.iterdir())
