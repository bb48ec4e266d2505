"""Ascent and NegGrad+ against a loop in NumPy, and what they do to a trained network."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.neggrad import GradientAscent, NegGradPlus
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig, train_subjects
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


def _slope(editor, label, weights):
    def slope(logits, rows, step):
        kept, lost = (
            by_hand.cross_entropy_slope(logits, label[rows], weights[name][rows])
            for name in ("retain", "forget")
        )
        if isinstance(editor, GradientAscent):
            return -lost
        return editor.alpha * kept - (1 - editor.alpha) * lost

    return slope


EDITORS = [
    NegGradPlus(alpha=0.8, learning_rate=0.05, steps=9, batch_size=7),
    pytest.param(
        NegGradPlus(alpha=0.8, learning_rate=0.05, steps=9, batch_size=80), marks=pytest.mark.slow
    ),
    pytest.param(GradientAscent(learning_rate=0.01, steps=9, batch_size=7), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("editor", EDITORS, ids=lambda e: f"{type(e).__name__}-{e.batch_size}")
def test_every_step_is_that_of_the_formula(editor):
    task = tiny.task(1)
    x, label, weights = by_hand.sets_of(task)
    start = by_hand.leaves_of(task.subject.params)
    slope = _slope(editor, label, weights)
    expected = by_hand.train(editor, KEY, x, weights, slope, start, task.site)
    result = editor.edit(task, KEY)
    by_hand.assert_leaves(result.params, expected, start, task.site)
    assert result.cost.gradient_steps == 9 and result.cost.reward_evaluations == 0


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
