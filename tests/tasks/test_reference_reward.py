"""A reward for being as another network is."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.evolution import SNES
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.tasks.reference_reward import gap_to_reference
from modeledit_jax.tasks.reward import EditedWeights, SetOutputs
from modeledit_jax.tasks.unlearning import forget_in_turn
from tests import tiny
from tests.editors.unlearning import by_hand


def probabilities(task, params):
    """Mean probability of the true class on every set of reward."""
    sets = task.roles["reward"]
    logits = role_outputs(task, params, ("reward",))["reward"].astype(np.float64)
    own = by_hand.softmax(logits, axis=1)[np.arange(len(sets.label)), sets.label]
    return {name: own[weights > 0].mean() for name, weights in sets.weights.items()}


def scored(reward, task, params):
    sets = task.roles["reward"]
    outputs = jnp.asarray(role_outputs(task, params, ("reward",))["reward"])
    seen = {
        name: SetOutputs(outputs, outputs, jnp.asarray(sets.label), jnp.asarray(weights))
        for name, weights in sets.weights.items()
    }
    return reward(seen, EditedWeights(task.leaves, task.leaves))


def test_the_reward_by_hand():
    task, reference = tiny.task(1), tiny.subject(5).params
    reward = gap_to_reference(task, reference)
    goals, found = probabilities(task, reference), probabilities(task, task.subject.params)
    expected = {name: 1 - abs(found[name] - goals[name]) for name in ("retain", "forget")}
    score, parts = scored(reward, task, task.subject.params)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5)
    np.testing.assert_allclose(score, sum(expected.values()), rtol=1e-5)
    np.testing.assert_allclose(scored(reward, task, reference)[0], 2, rtol=1e-6)  # the most
    assert float(reward.minimum) == 0 < float(score) < 2


def test_a_reference_is_of_one_request():
    task = forget_in_turn(tiny.subject(), tiny.splits(), [1, 0])
    with pytest.raises(ValueError, match="has 2 requests, a reference is of one"):
        gap_to_reference(task, tiny.subject(5).params)


@pytest.mark.slow
def test_a_search_comes_closer_to_each_tasks_own_reference():
    tasks = [tiny.task(1, seed=seed) for seed in range(2)]
    references = [tiny.subject(seed + 5).params for seed in range(2)]
    paid = [
        replace(task, reward=gap_to_reference(task, params))
        for task, params in zip(tasks, references, strict=True)
    ]
    search = SNES(world="shift", budget=600, population=10, std=0.3, learning_rate=1.0)
    for task, found in zip(paid, edit_many(search, paid, jax.random.key(0)), strict=True):
        before, after = (
            float(scored(task.reward, task, params)[0])
            for params in (task.subject.params, found.params)
        )
        assert after > before + 0.2 * (2 - before)
