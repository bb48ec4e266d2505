"""Penalties for what is left inside, by hand in NumPy and in a search."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.search.evolution import SNES
from modeledit_jax.envs.worlds import ShiftWorld
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.tasks.deep_reward import deep_reward, prototype_probability
from modeledit_jax.tasks.reward import EditedWeights
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


def _prototypes_by_hand(h, label, forget, classes):
    means = np.stack([h[label == c].mean(axis=0) for c in range(classes)])
    distance = ((h[:, None] - means) ** 2).sum(axis=-1)
    own = distance[np.arange(len(label)), label]
    variance = own[~forget].mean() / h.shape[1]
    p = by_hand.softmax(-distance / (2 * variance), axis=1)
    return p[np.arange(len(label)), label][forget].mean()


def test_prototype_probabilities_by_hand(rng):
    label = np.arange(30) % 3
    h = rng.normal(size=(30, 4)) + label[:, None]
    forget = label == 1
    sets = [jnp.asarray(own, jnp.float32) for own in (~forget, forget)]
    expected = _prototypes_by_hand(h, label, forget, 3)
    for scale in (1.0, 1e-3):  # units do not matter
        arrays = (jnp.asarray(scale * h, jnp.float32), jnp.asarray(label))
        found = prototype_probability(*arrays, *sets, 3)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        with_a_class_that_is_not_there = prototype_probability(*arrays, *sets, 4)
        np.testing.assert_allclose(with_a_class_that_is_not_there, expected, rtol=1e-4)
    assert 0.3 < expected < 0.9


def _moved(task):
    return {"fc2/kernel": task.leaves["fc2/kernel"] + 0.1}


@pytest.mark.slow
def test_both_parts_of_an_edited_network_by_hand():
    task = tiny.task(1)
    reward = deep_reward(task, prototypes=0.5, relearning=2.0, step=0.7)
    leaves = _moved(task)
    found = reward.measured(leaves)
    sets = task.roles["reward"]
    forget = sets.weights["forget"] > 0
    own = by_hand.leaves_of(task.subject.params)
    own["fc2/kernel"] = np.asarray(leaves["fc2/kernel"], np.float64)
    logits, inputs = by_hand.forward(own, sets.x)
    expected = _prototypes_by_hand(inputs[2], sets.targets, forget, 3)
    np.testing.assert_allclose(found["prototypes"], expected, rtol=1e-3)
    slope = by_hand.cross_entropy_slope(logits, sets.targets, forget.astype(float))
    gradient = by_hand.backward(own, inputs, slope)
    for path in ("fc2/kernel", "head/kernel"):
        own[path] = own[path] - 0.7 * gradient[path]
    p = by_hand.softmax(by_hand.forward(own, sets.x)[0], axis=1)[forget, 1].mean()
    np.testing.assert_allclose(found["relearning"], p, rtol=1e-3)
    # The score is that of the task's own reward minus both penalties.
    env = ShiftWorld(replace(task, reward=reward))
    score, parts, _ = env.evaluate(leaves, env.default_params)
    plain = ShiftWorld(task)
    base, _, _ = plain.evaluate(leaves, plain.default_params)
    np.testing.assert_allclose(score, base - 0.5 * abs(expected - 1 / 3) - 2.0 * p, rtol=1e-3)
    assert set(parts) == {"utility", "forgetting", "prototypes", "relearning"}
    assert reward.minimum == task.reward.minimum - 2.5


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "read"), [(1, (2,)), (2, (1, 2)), (["fc2/kernel"], (1,))])
def test_layers_that_are_edited_themselves_are_looked_at_too(layers, read):
    """What every one behind the first edited layer reads, by the edited weights."""
    task = tiny.task(1, site=("fc1/kernel", "fc2/kernel", "head/kernel"))
    reward = deep_reward(task, prototypes=0.5, relearning=1.0, layers=layers, step=0.7)
    leaves = {path: leaf + 0.1 for path, leaf in task.leaves.items()}
    found = reward.measured(leaves)
    sets = task.roles["reward"]
    forget = sets.weights["forget"] > 0
    own = by_hand.leaves_of(task.subject.params)
    own |= {path: np.asarray(leaf, np.float64) for path, leaf in leaves.items()}
    logits, inputs = by_hand.forward(own, sets.x)
    each = [_prototypes_by_hand(inputs[index], sets.targets, forget, 3) for index in read]
    np.testing.assert_allclose(found["prototypes"], each, rtol=1e-3)
    slope = by_hand.cross_entropy_slope(logits, sets.targets, forget.astype(float))
    gradient = by_hand.backward(own, inputs, slope)
    for path in task.site:
        own[path] = own[path] - 0.7 * gradient[path]
    p = by_hand.softmax(by_hand.forward(own, sets.x)[0], axis=1)[forget, 1].mean()
    np.testing.assert_allclose(found["relearning"], p, rtol=1e-3)
    # Layers are compared with a goal each: one above and one below it do not make up for it.
    gaps = np.array([0.3, -0.1])[: len(each)]
    goals = jnp.asarray(np.array(each) + gaps, jnp.float32)
    inside = replace(reward.inside, goals=reward.inside.goals | {"prototypes": goals})
    reward = replace(reward, inside=inside)
    env, plain = ShiftWorld(replace(task, reward=reward)), ShiftWorld(task)
    score, parts, _ = env.evaluate(leaves, env.default_params)
    base, _, _ = plain.evaluate(leaves, plain.default_params)
    np.testing.assert_allclose(score, base - 0.5 * np.abs(gaps).mean() - p, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(parts["prototypes"], np.mean(each), rtol=1e-3)


@pytest.mark.slow
def test_goals_are_the_values_of_a_reference():
    task, other = tiny.task(1), tiny.subject(5)
    reward = deep_reward(task, relearning=1.0, reference=other.params, examples=20)
    sets = task.roles["reward"]
    goal = deep_reward(tiny.task(1, base=other), relearning=1.0, examples=20)
    found = goal.measured({"fc2/kernel": other.params["fc2"]["kernel"]})
    for name in ("prototypes", "relearning"):
        np.testing.assert_allclose(reward.inside.goals[name], found[name], rtol=1e-4)
    assert len(reward.inside.label) == 20
    assert reward.inside.weights["forget"].sum() == round(20 * (sets.targets == 1).mean())


@pytest.mark.slow
def test_a_search_side_by_side_lowers_what_is_left_inside():
    plain = [tiny.task(c) for c in (0, 1)]
    tasks = [replace(task, reward=deep_reward(task, prototypes=3.0)) for task in plain]
    search = SNES(budget=400, population=10)
    found = edit_many(search, tasks, jax.random.split(KEY, 2))
    for task, result in zip(tasks, found, strict=True):
        before, after = (
            abs(float(task.reward.measured(leaves)["prototypes"][0]) - 1 / 3)
            for leaves in (task.leaves, {"fc2/kernel": result.params["fc2"]["kernel"]})
        )
        assert after < before or before < 0.02


def test_what_cannot_be_looked_at_is_named():
    task = tiny.task(1)
    samples = forget_samples(tiny.subject(), tiny.splits(), [3])
    with pytest.raises(ValueError, match="forgets no whole class, which deep rewards are about"):
        deep_reward(samples)
    with pytest.raises(ValueError, match="no layer behind the site head/kernel to look at"):
        deep_reward(tiny.task(1, site="head/kernel"))
    with pytest.raises(ValueError, match="prototypes must be finite and at least 0, got -1"):
        deep_reward(task, prototypes=-1.0)
    with pytest.raises(ValueError, match="examples must be at least 2, got 1"):
        deep_reward(task, examples=1)
    with pytest.raises(ValueError, match="once, as x @ W"):
        deep_reward(tiny.task(1, site="fc2/bias"))


def test_the_reward_is_a_pytree_that_is_equal_for_equal_shapes():
    rewards = [deep_reward(tiny.task(c, seed=c)) for c in (0, 1)]
    structures = [jax.tree.structure(reward) for reward in rewards]
    assert structures[0] == structures[1]
    edit = EditedWeights(_moved(tiny.task(0)), dict(tiny.task(0).leaves))
    assert edit.size() > 0
