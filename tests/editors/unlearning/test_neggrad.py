"""NegGrad+ against a loop in NumPy, and what it does to a trained network."""

from dataclasses import replace
from functools import lru_cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.unlearning.neggrad import NegGradPlus
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig, train_subjects
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny

KEY = jax.random.key(0)


def _by_hand(editor, task, key):
    """The kernel after all steps, in float64, with the head fixed behind one ReLU layer."""
    sets, p = (
        task.roles["train"],
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), task.subject.params),
    )
    h = np.maximum(sets.x @ p["fc1"]["kernel"] + p["fc1"]["bias"], 0)
    kernel, velocity = p["fc2"]["kernel"].copy(), 0.0
    for done, own in enumerate(jax.random.split(key, editor.steps)):
        rows = np.asarray(jax.random.randint(own, (editor.batch_size,), 0, len(h)))
        z = h[rows] @ kernel + p["fc2"]["bias"]
        logits = np.maximum(z, 0) @ p["head"]["kernel"] + p["head"]["bias"]
        error = scipy.special.softmax(logits, axis=1)
        error[np.arange(len(rows)), sets.targets[rows]] -= 1
        retain, forget = (sets.weights[name][rows] for name in ("retain", "forget"))
        share = editor.alpha * retain / max(retain.sum(), 1)
        share = share - (1 - editor.alpha) * forget / max(forget.sum(), 1)
        back = (share[:, None] * error) @ p["head"]["kernel"].T * (z > 0)
        velocity = editor.momentum * velocity + h[rows].T @ back
        rate = editor.learning_rate * 0.5 * (1 + np.cos(np.pi * done / editor.steps))
        kernel -= rate * velocity
    return kernel


@pytest.mark.parametrize("batch_size", [7, pytest.param(80, marks=pytest.mark.slow)])
def test_every_step_is_that_of_the_formula(batch_size):
    editor = NegGradPlus(alpha=0.8, learning_rate=0.05, steps=9, batch_size=batch_size)
    task = tiny.task(1)
    result = editor.edit(task, KEY)
    expected = _by_hand(editor, task, KEY)
    np.testing.assert_allclose(result.params["fc2"]["kernel"], expected, rtol=1e-3, atol=1e-5)
    assert np.abs(expected - np.asarray(task.leaves["fc2/kernel"])).max() > 0.01
    assert result.cost.gradient_steps == 9
    assert result.cost.reward_evaluations == 0 and isinstance(editor, Editor)
    for name in ("fc1", "head"):
        chex.assert_trees_all_equal(result.params[name], task.subject.params[name])


@lru_cache
def _trained():
    train = tiny.splits().train
    examples = replace(train, x=jnp.asarray(train.x), y=jnp.asarray(train.y))
    config = TrainingConfig(40, 20, learning_rate=0.02)
    return train_subjects(MLP(tiny.CLASSES, (8, 8)), examples, config, jax.random.split(KEY, 1))[0]


@pytest.mark.slow
def test_the_class_is_lost_and_the_others_are_kept():
    task = tiny.task(2, base=_trained())
    editor = NegGradPlus(alpha=0.8, learning_rate=0.2, steps=60, batch_size=20)
    params = editor.edit(task, KEY).params
    test = tiny.splits().test
    before, after = (
        np.asarray(task.subject.apply(p, jnp.asarray(test.x))).argmax(1) == test.y
        for p in (task.subject.params, params)
    )
    forgotten = test.y == 2
    assert before[forgotten].mean() > 0.8 and after[forgotten].mean() < 0.1
    assert after[~forgotten].mean() > before[~forgotten].mean() - 0.1


def test_batches_without_a_sample_to_forget_only_descend():
    task = forget_samples(tiny.subject(), tiny.splits(), [3])
    params = NegGradPlus(batch_size=5, steps=10).edit(task, KEY).params
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_a_weight_out_of_range_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
        NegGradPlus(alpha=alpha).edit(tiny.task(0), KEY)


def test_a_task_without_one_of_the_sets_is_refused():
    task = tiny.task(0)
    train = task.roles["train"]
    for name in ("retain", "forget"):
        weights = {**train.weights, name: np.zeros(60, np.float32)}
        roles = {**task.roles, "train": replace(train, weights=weights)}
        with pytest.raises(ValueError, match="none to forget in its train role"):
            NegGradPlus().edit(replace(task, roles=roles), KEY)
