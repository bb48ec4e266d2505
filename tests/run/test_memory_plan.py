"""A small budget takes more chunks and gives the same edits."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from modeledit_jax.editors.search.evolution import SNES, OpenES
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.envs.task_pool import make_pool, params_shapes
from modeledit_jax.memory import tree_bytes
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.memory_plan import plan_memory, sizes_of
from tests import tiny
from tests.run.test_edit_many import OTHER_WORK, Reports

KEY = jax.random.key(3)
SEARCH = SNES(population=6, budget=36)


@cache
def tasks():
    """Four networks, three requests of each but the last."""
    found = [tiny.task(c, base=tiny.subject(seed)) for seed in range(4) for c in range(3)]
    return found[:-1]


def env(search=SEARCH):
    return search.make_world(tasks()[0]).static


def sizes(search=SEARCH):
    return sizes_of(search, env(search), params_shapes(env(search), tasks()[0]))


def plan(budget, search=SEARCH, **options):
    return plan_memory(search, env(search), tasks(), budget, **options)


def least(search=SEARCH):
    own = sizes(search)
    return 2 * own.network + own.task + own.update + own.candidate


def planned(budget, search=SEARCH, **options):
    """Traces of all tasks, and the line about the plan."""
    lines, options = [], {"report": Reports()} | options
    found = edit_many(search, tasks(), KEY, memory=budget, announce=lines.append, **options)
    (line,) = lines
    return [one.trace for one in found], line


@cache
def at_ease(search):
    return planned(10**9, search)


def assert_equal(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_close(found, expected):
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-3)  # noqa: E731
    jax.tree.map(compare, found, expected)


def test_shapes_are_those_of_the_params():
    found = params_shapes(env(), tasks()[0])
    expected = env().params(tasks()[0])
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert all(jax.tree.leaves(jax.tree.map(same, found, expected)))


def test_sizes_are_those_of_the_arrays():
    pool, own = make_pool(env(), tasks()), sizes()
    assert tree_bytes(pool.subjects) == 4 * own.network
    state = SEARCH.init(env(), pool.task(0), KEY)
    assert tree_bytes(pool.requests) + 11 * tree_bytes(state) == 11 * own.task


def test_a_large_budget_takes_all_at_once():
    found = plan(10**9)
    assert found.parts == (tuple(range(11)),) and found.tasks == 11 and found.candidates == 6
    assert found.needed <= found.budget and not found.fewer_candidates
    assert str(found).startswith("memory: at most ") and "of 1 GB: 11 tasks in 1 part, 11 side" in (
        str(found)
    )


def test_every_budget_is_kept_and_a_larger_one_never_takes_more_parts():
    parts, candidates = [], []
    for budget in np.geomspace(least(), 20 * least(), 10).astype(int) + 1:
        found = plan(int(budget))
        assert found.needed <= budget
        assert sorted(index for part in found.parts for index in part) == list(range(11))
        parts.append(len(found.parts))
        candidates.append(found.candidates)
    assert parts == sorted(parts, reverse=True) and parts[0] > 1 == parts[-1]
    assert candidates == sorted(candidates) and candidates[0] < 6 == candidates[-1]


def test_devices_share_what_is_stored():
    budget = int(1.5 * least())
    assert len(plan(budget, devices=4).parts) < len(plan(budget).parts)


def test_a_budget_that_is_too_small_is_refused_with_what_it_takes():
    with pytest.raises(ValueError, match="1 KB is too small for one candidate of one task") as info:
        edit_many(SEARCH, tasks(), KEY, memory=1000)
    assert "\n" not in str(info.value) and "give at least that" in str(info.value)
    with pytest.raises(ValueError, match="too small"):
        plan(least() - 1)
    assert plan(least()).candidates == 1


@pytest.mark.slow
def test_few_candidates_and_many_parts_give_the_edits_of_all_at_once():
    """The edits have the same bits; a mean score is rounded in another order."""
    reports = Reports()
    found, line = planned(least(), report=reports)
    assert "side by side, 1 candidates of each at a time" in line
    for one, other in zip(found, at_ease(SEARCH)[0], strict=True):
        assert_equal(one.plans, other.plans)
        assert_close(one.metrics, other.metrics)
    count = len(plan(least()).parts)
    assert count > 1 and reports[-1] == (6 * count, 6 * count, {})


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.3, 3])
@pytest.mark.parametrize(
    "search",
    [OpenES(population=6, budget=36), PPO(budget=60), PPO("mask", 48, horizon=2)],
    ids=["openes", "ppo", "ppo-mask"],
)
def test_other_searches_and_budgets(search, factor):
    found, _ = planned(int(factor * least(search)), search)
    for one, other in zip(found, at_ease(search)[0], strict=True):
        (assert_equal if isinstance(search, OpenES) else assert_close)(one.plans, other.plans)
        assert_close(one.metrics, other.metrics)


@pytest.mark.slow
def test_a_run_in_parts_goes_on_with_its_parts_under_another_budget(tmp_path):
    search = replace(SEARCH, budget=72)
    budgets = np.geomspace(least(search), 20 * least(search), 60).astype(int)
    budget = next(int(b) for b in budgets if len(plan(int(b), search).parts) == 3)
    with pytest.raises(KeyboardInterrupt):
        planned(budget, search, folder=tmp_path, report=Reports(interrupt_at=22))
    reports = Reports()
    found, line = planned(10**9, search, folder=tmp_path, report=reports)
    assert "in 3 parts" in line and reports.done == [22, 24, 34, 36]  # of 12 each
    for one, other in zip(found, at_ease(search)[0], strict=True):
        assert_equal(one.plans, other.plans)
        assert_close(one.metrics, other.metrics)
    with pytest.raises(ValueError, match=OTHER_WORK):
        planned(10**9, replace(search, std=0.5), folder=tmp_path)
