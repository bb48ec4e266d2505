"""`edit_tasks` gives every network what a search for it alone would give."""

import jax
import numpy as np
import pytest

from modeledit_jax import make
from modeledit_jax.editors.editor import edit_with_search
from modeledit_jax.editors.search.evolution import OpenES
from modeledit_jax.edits.site import get_leaves, leaf_paths
from modeledit_jax.run.loop import edit_tasks
from tests import tiny

KEY, BUDGET = jax.random.key(3), 30
SEARCH = OpenES(population=6)


@pytest.fixture(scope="module")
def tasks():
    return [tiny.task(0, seed=0), tiny.task(2, seed=1)]


@pytest.fixture(scope="module")
def env(tasks):
    return make("ShiftWorld-v0", tasks[0])[0]


def test_each_task_is_edited_as_if_alone(env, tasks):
    results = edit_tasks(SEARCH, env, tasks, KEY, BUDGET)
    assert len(results) == 2
    for key, task, result in zip(jax.random.split(KEY, 2), tasks, results, strict=True):
        alone = edit_with_search(SEARCH, env, task, key, BUDGET)
        assert result.cost.reward_evaluations == alone.cost.reward_evaluations == BUDGET
        assert result.cost.gradient_steps == alone.cost.gradient_steps
        for own, other in ((result.trace, alone.trace), (result.params, alone.params)):
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), own, other
            )


def test_only_the_site_changes_and_reports_come_after_every_chunk(env, tasks):
    seen = []
    results = edit_tasks(
        SEARCH,
        env,
        tasks,
        KEY,
        BUDGET,
        chunk=2,
        report=lambda done, total, trace: seen.append((done, total, trace.plans.shape[:2])),
    )
    assert seen == [(2, 5, (2, 2)), (4, 5, (2, 2)), (5, 5, (2, 1))]
    for task, result in zip(tasks, results, strict=True):
        paths = leaf_paths(task.subject.params)
        before, after = get_leaves(task.subject.params, paths), get_leaves(result.params, paths)
        for path in paths:
            same = np.array_equal(before[path], after[path])
            assert same == (path not in task.site), path


def test_a_budget_below_one_update_is_refused(env, tasks):
    with pytest.raises(ValueError, match="does not pay for one update of OpenES"):
        edit_tasks(SEARCH, env, tasks, KEY, SEARCH.population - 1)
