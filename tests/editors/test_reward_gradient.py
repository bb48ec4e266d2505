"""Gradient ascent on a task's reward: the slope by finite differences, and rewards without one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.reward_gradient import RewardGradient, _ascend
from modeledit_jax.envs.worlds import make_world
from modeledit_jax.tasks.reward import as_reward
from tests.editors import biased

KEY = jax.random.key(0)


def score(task, params):
    env = make_world("shift", task)
    leaves = dict.fromkeys(task.site, params["fc2"]["kernel"])
    return float(env.evaluate(leaves, env.default_params)[0])


def test_it_climbs_the_reward_and_spends_no_evaluation():
    task = biased.task()
    result = RewardGradient(steps=60, learning_rate=0.01).edit(task, KEY)
    assert biased.changed(result.params) == {"fc2/kernel"}
    assert (result.cost.reward_evaluations, result.cost.gradient_steps) == (0, 60)
    before, after = score(task, biased.subject_params()), score(task, result.params)
    assert result.trace["score"][0] == pytest.approx(before, rel=1e-5)
    assert after > result.trace["score"][5] > before


def test_its_first_step_has_the_signs_of_the_slope():
    """Adam's first step is the step size in the direction of the gradient's sign."""
    task = biased.task()
    env = make_world("shift", task)
    leaves, _, slope = _ascend(env.static, 1, jnp.float32(1e-4), env.default_params)
    kernel = np.asarray(env.default_params.original["fc2/kernel"])
    moved = np.asarray(leaves["fc2/kernel"]) - kernel

    def at(change):
        return float(env.evaluate({"fc2/kernel": jnp.asarray(kernel + change)},
                                  env.default_params)[0])  # fmt: skip

    rng, size = np.random.default_rng(0), 3e-3
    direction = np.abs(rng.normal(size=kernel.shape)).astype(np.float32) * np.sign(moved)
    rise = (at(size * direction) - at(-size * direction)) / (2 * size)
    assert rise > 0 and slope > 0
    np.testing.assert_allclose(np.abs(moved[moved != 0]), 1e-4, rtol=1e-2)


def test_a_reward_without_a_slope_is_refused():
    def decisions(sets, edit):
        return jnp.mean(sets["comments"].outputs > 0)

    task = replace(biased.task(), reward=as_reward(decisions))
    with pytest.raises(
        ValueError, match="has no gradient in fc2/kernel: choose one that is smooth"
    ):
        RewardGradient(steps=1).edit(task, KEY)
