"""A pool gives every task the params it has on its own."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.envs.task_pool import TaskPool, make_pool
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.tasks.reward import as_reward
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)
REQUESTS = [(0, 0), (1, 2), (0, (0, 1)), (1, 0), (0, 2)]  # subject and classes, not in groups
N = tiny.SIZES["reward"]


def _reward(index):
    return unlearning_reward("soft", utility=1.0 + index)


@lru_cache
def _tasks():
    """Five requests of two networks, with other weights of the reward each."""
    return [
        tiny.task(classes, seed=seed, base=tiny.subject(seed), reward=_reward(index))
        for index, (seed, classes) in enumerate(REQUESTS)
    ]


@lru_cache
def _pool():
    env = ShiftWorld(_tasks()[0], parametrization=LowRank(1), observation="neurons")
    return env, make_pool(env, _tasks())


@partial(jax.jit, static_argnums=(0, 3, 4))
def _draw(env, pool, key, count, examples=None):
    return pool.draw(env, key, count, examples)


def _same(found, expected, **tolerance):
    def compare(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, **tolerance)

    jax.tree.map(compare, found, expected)


def _which(params):
    """Indices of drawn tasks, by the weight of their reward."""
    return np.asarray(params.reward.weights["utility"]).astype(int) - 1


def test_every_task_is_what_the_world_makes_of_it():
    env, pool = _pool()
    assert len(pool) == 5
    for index, task in enumerate(_tasks()):
        _same(pool.task(index), env.params(task), rtol=1e-5, atol=1e-6)
    traced = jax.jit(TaskPool.task)(pool, jnp.int32(3))
    _same(traced, pool.task(3), rtol=1e-6)


def test_what_belongs_to_a_network_is_kept_once():
    _, pool = _pool()
    np.testing.assert_array_equal(pool.subject, [0, 1, 0, 1, 0])
    assert {leaf.shape[0] for leaf in jax.tree.leaves(pool.subjects)} == {2}
    assert {leaf.shape[0] for leaf in jax.tree.leaves(pool.requests)} == {5}
    assert pool.requests.features is None and pool.subjects.weights is None
    assert pool.subjects.original_outputs.shape == (2, N, tiny.CLASSES)


def test_one_network_on_other_examples_is_not_mixed_up():
    """The cached features are those of a network and of the examples it was shown."""
    base = tiny.subject()
    tasks = [tiny.task(0, base=base), tiny.task(0, seed=7, base=base)]
    env = ShiftWorld(tasks[0], parametrization=LowRank(1))
    pool = make_pool(env, tasks)
    for index, task in enumerate(tasks):
        _same(pool.task(index), env.params(task), rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_tasks_are_drawn_without_replacement(seed):
    env, pool = _pool()
    drawn = _draw(env, pool, jax.random.key(seed), 4)
    chosen = _which(drawn)
    assert len(set(chosen)) == 4
    for place, index in enumerate(chosen):
        _same(jax.tree.map(lambda leaf, i=place: leaf[i], drawn), pool.task(index), rtol=1e-6)


def test_all_tasks_turn_up():
    env, pool = _pool()
    draws = [_which(_draw(env, pool, jax.random.key(seed), 4)) for seed in range(40)]
    counts = np.bincount(np.concatenate(draws), minlength=5)
    assert np.all(counts > 20)  # 32 each on average
    assert len({tuple(draw) for draw in draws}) > 20


@pytest.mark.slow
def test_drawn_examples_are_the_same_for_all_tasks_and_score_them():
    env, pool = _pool()
    drawn = _draw(env, pool, KEY, 4, 25)
    (cached,) = drawn.features.per_example  # arranged: examples come last
    assert (len(cached), cached.shape[-1]) == (4, 25)
    rows = None
    for place, index in enumerate(_which(drawn)):
        own, whole = jax.tree.map(lambda leaf, i=place: leaf[i], drawn), pool.task(index)
        # Rows are found again by their cached features, which are all different.
        (part,), (features,) = (
            jax.tree.map(lambda leaf: np.moveaxis(leaf, -1, 0), data.features.per_example)
            for data in (own, whole)
        )
        distance = np.abs(part[:, None] - features[None]).reshape(25, N, -1).max(axis=-1)
        found = distance.argmin(axis=1)
        assert np.all(distance[np.arange(25), found] == 0) and len(set(found)) == 25
        assert rows is None or np.array_equal(rows, found)
        rows = found
        np.testing.assert_array_equal(own.targets, whole.targets[rows])
        np.testing.assert_array_equal(own.original_outputs, whole.original_outputs[rows])
        for name, weight in own.weights.items():
            np.testing.assert_array_equal(weight, whole.weights[name][rows])
        _same((own.original, own.neurons), (whole.original, whole.neurons), rtol=1e-6)

        task = _tasks()[index]
        outputs = task.subject.apply(task.subject.params, jnp.asarray(task.roles["reward"].x)[rows])
        right = np.asarray(jax.nn.softmax(outputs))[np.arange(25), own.targets]
        kept, lost = (np.average(right, weights=own.weights[n]) for n in ("retain", "forget"))
        np.testing.assert_allclose(own.score, (1 + index) * kept + 1 - lost, rtol=1e-4)
        np.testing.assert_allclose(own.parts["utility"], kept, rtol=1e-4)
        assert abs(float(own.score) - float(whole.score)) > 1e-4


def test_examples_that_belong_together_are_not_drawn_one_by_one():
    targets = {"label": jnp.zeros((1, 4), jnp.int32), "blocks": jnp.zeros((1, 2, 2), jnp.int32)}
    env, pool = _pool()
    together = pool.replace(subjects=pool.subjects.replace(targets=targets))
    with pytest.raises(ValueError, match="leave examples at None"):
        together.draw(env, KEY, 1, examples=2)


def test_examples_are_drawn_anew():
    env, pool = _pool()
    one, two = (_draw(env, pool, jax.random.key(seed), 4, 25) for seed in (1, 2))
    assert not np.array_equal(np.sort(one.targets[0]), one.targets[0])
    assert not np.array_equal(one.targets[0], two.targets[0])
    again = _draw(env, pool, jax.random.key(1), 4, 25)
    _same(again, one, rtol=0)


def test_pools_that_cannot_be_made_are_refused():
    env, pool = _pool()
    with pytest.raises(ValueError, match="at least one task"):
        make_pool(env, [])
    with pytest.raises(ValueError, match=r"the task edits .*fc1/kernel.* the environment .*fc2"):
        make_pool(env, [_tasks()[0], tiny.task(site="fc1/kernel")])
    other = as_reward(lambda sets, edit: sets["retain"].accuracy())
    with pytest.raises(ValueError, match="task 1 does not fit beside task 0, its reward has"):
        make_pool(env, [_tasks()[0], tiny.task(1, base=tiny.subject(), reward=other)])
    with pytest.raises(ValueError, match="larger"):
        pool.draw(env, KEY, 6)
