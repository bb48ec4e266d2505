"""Params of several tasks side by side, or in words why they do not fit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.parametrization import PerRow
from modeledit_jax.envs.stacking import difference, stack_params
from modeledit_jax.envs.worlds import MaskWorld
from modeledit_jax.tasks.reward import as_reward
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny

KEY = jax.random.key(0)


@partial(jax.jit, static_argnums=0)
def play(env, params, plan):
    """Steps through an episode; the transitions without the automatic reset."""
    _, state = env.reset_env(KEY, params)

    def step(state, action):
        observation, state, reward, terminated, info = env.step_env(KEY, state, action, params)
        return state, (observation, reward, terminated, info, state.leaves)

    return jax.lax.scan(step, state, plan)[1]


def test_stacked_params_under_vmap_equal_one_by_one():
    """Other networks, requests and reward weights side by side in one environment."""
    tasks = [
        tiny.task(classes, seed=seed, reward=unlearning_reward("soft", utility=utility))
        for seed, classes, utility in ((0, 0, 1.0), (1, (1, 2), 0.5), (2, 1, 2.0))
    ]
    env = MaskWorld(tasks[0], horizon=2, parametrization=PerRow())
    params = [env.params(task) for task in tasks]
    plan = 0.5 * jax.random.normal(KEY, (2, env.num_actions))
    together = jax.vmap(lambda params: play(env, params, plan))(stack_params(params))
    scores = []
    for index, one in enumerate(params):
        alone = play(env, one, plan)
        jax.tree.map(
            lambda a, b, i=index: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),
            together,
            alone,
        )
        scores.append(float(alone[3]["score"][-1]))
    assert len(set(scores)) == 3


def _retained_accuracy(sets, edit):
    return sets["retain"].accuracy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reward": as_reward(_retained_accuracy)}, "its reward has another function or other"),
        ({"reward": unlearning_reward("accuracy")}, "its reward has another function or other"),
        ({"reward": unlearning_reward(edit_size=0.1)}, "its reward has another function or other"),
        ({"targets": jnp.zeros(41)}, r"its targets has shape \(41,\) in place of \(40,\)"),
        ({"original": {"fc2/kernel": jnp.zeros((5, 7))}}, r"its original/fc2/kernel has shape"),
        ({"weights": {"retain": jnp.ones(40)}}, "its evaluation sets or leaves have other names"),
    ],
)
def test_tasks_that_cannot_be_stacked_are_named_with_the_cure(shiftworld, changes, message):
    first = shiftworld.params(tiny.task(0))
    with pytest.raises(ValueError, match=message) as info:
        stack_params([first, first, first.replace(**changes)])
    text = str(info.value)
    assert text.startswith("task 2 does not fit beside task 0") and "\n" not in text
    assert "need one reward function, equal example shapes and equal leaves" in text


def test_one_function_of_ones_own_serves_tasks_side_by_side(shiftworld):
    tasks = [tiny.task(classes, reward=_retained_accuracy) for classes in (0, 1)]
    stacked = stack_params([shiftworld.params(task) for task in tasks])
    assert stacked.score.shape == (2,)


@pytest.mark.slow
def test_tasks_that_fit_have_no_difference(shiftworld):
    one, two = (shiftworld.params(tiny.task(c, base=tiny.subject(c))) for c in (0, 1))
    assert difference(one, two) is None
