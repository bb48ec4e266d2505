"""A small budget plays fewer tasks and trials at a time, and trains the same policy."""

from dataclasses import replace

import chex
import jax
import pytest

from modeledit_jax.agents.grpo import AtOnce
from modeledit_jax.editors.policy.learned import neuron_world
from modeledit_jax.editors.policy.memory_plan import plan_updates
from modeledit_jax.editors.policy.training import PolicyTrainer
from modeledit_jax.envs.task_pool import make_pool, pool_shapes
from modeledit_jax.mesh import make_mesh
from tests.editors.policy.test_training import CONFIG, KEY, _group

SIZES = [(4, 8), (2, 8), (1, 8), (1, 4), (1, 2), (1, 1)]
"""Of tasks and trials, in the order in which they are tried."""


def trainer(memory, config=CONFIG, mesh=None):
    lines = []
    found = PolicyTrainer.of(
        config, "shift", [_group(5, range(4))], mesh, memory=memory, announce=lines.append
    )
    (line,) = lines
    return found, line


def planned(memory, stored=100, devices=1):
    return plan_updates(4, 8, stored, lambda size: 10 * _number(size, devices), memory, devices)


def _number(size, devices=1):
    return (size.tasks or 4) * (size.trials or 8)


def test_tasks_are_taken_apart_first_and_then_trials():
    found = [planned(100 + 10 * tasks * trials) for tasks, trials in SIZES]
    assert [(p.at_once.tasks or 4, p.at_once.trials or 8) for p in found] == SIZES
    assert all(plan.needed == plan.budget for plan in found)
    assert planned(419).at_once == AtOnce(2)
    with pytest.raises(ValueError, match="by one trial at a time, which takes 110 B") as error:
        planned(109)
    assert "\n" not in str(error.value)
    assert str(planned(260)) == (
        "memory: at most 260 B of 260 B: 2 of 4 tasks of an update side by side, 8 of 8 trials of "
        "each at a time"
    )


def test_devices_share_the_tasks_and_play_all_of_their_own():
    assert planned(180, devices=4).at_once == AtOnce()
    assert planned(179, devices=4).at_once == AtOnce(None, 4)


def test_the_default_budget_takes_all_at_once():
    assert trainer(None)[0].at_once == AtOnce()


def test_shapes_of_a_pool_are_those_of_its_arrays():
    group = _group(5, range(4))
    env = neuron_world(CONFIG.network("shift"), "shift", group[0]).static
    pool, shapes = make_pool(env, group), pool_shapes(env, group)
    assert jax.tree.structure(pool) == jax.tree.structure(shapes)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)  # noqa: E731
    assert all(jax.tree.leaves(jax.tree.map(same, pool, shapes)))


@pytest.fixture(scope="module")
def least():
    with pytest.raises(ValueError, match="the memory budget of 1 KB is too small") as error:
        trainer(1000)
    number, unit = str(error.value).split("takes ")[1].split(":")[0].split()
    return int(float(number) * {"KB": 1e3, "MB": 1e6}[unit])


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "factors"), [(None, (1, 1.6, 2.2)), (7, (1,))])
def test_a_small_budget_trains_the_same_policy(least, examples, factors):
    config = replace(CONFIG, examples=examples)
    state, expected = (own := trainer(10**9, config)[0]).advance(own.init(KEY), 0, 3)
    seen = set()
    for factor in factors:
        few, line = trainer(int(factor * least), config)
        seen.add(few.at_once)
        assert "tasks of an update side by side" in line and few.at_once != AtOnce()
        there, found = few.advance(few.init(KEY), 0, 3)
        chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-4)
        chex.assert_trees_all_close(there.params, state.params, rtol=1e-3, atol=1e-4)
    assert len(seen) == len(factors)


@pytest.mark.slow
def test_on_a_mesh_trials_are_taken_apart(least):
    alone, _ = trainer(10**9)
    _, expected = alone.advance(alone.init(KEY), 0, 2)
    spread, _ = trainer(int(0.7 * least), mesh=make_mesh({"tasks": 4}))
    assert spread.at_once.tasks is None and spread.at_once.trials is not None
    _, found = spread.advance(spread.init(KEY), 0, 2)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-4)
