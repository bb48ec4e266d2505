"""Original, LogitMask and Retrain do what a report takes them for."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.editor import Cost, Editor
from modeledit_jax.editors.unlearning.references import LogitMask, Original, Retrain
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.subjects.training import TrainingConfig, gradient_steps
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny

KEY = jax.random.key(0)


def _others(params, changed):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if jax.tree_util.keystr(path, simple=True, separator="/") != changed
    }


def test_original_is_the_subject_and_costs_nothing():
    task = tiny.task(1)
    result = Original().edit(task, KEY)
    assert result.params is task.subject.params and result.cost == Cost()


@pytest.mark.parametrize("classes", [1, (0, 2)])
def test_a_masked_class_has_probability_zero_and_nothing_else_changes(classes):
    task = tiny.task(classes)
    result = LogitMask().edit(task, KEY)
    x = 100.0 * jnp.asarray(tiny.splits().test.x)  # logits far apart
    probability = np.asarray(jax.nn.softmax(task.subject.apply(result.params, x)))
    forgotten = list(task.forget_classes)
    np.testing.assert_array_equal(probability[:, forgotten], 0.0)
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-5)
    before, after = (
        _others(params, "head/bias") for params in (task.subject.params, result.params)
    )
    assert before.keys() == after.keys() and len(before) == 5
    assert all(after[path] is leaf for path, leaf in before.items())
    kept = [c for c in range(tiny.CLASSES) if c not in forgotten]
    biases = [params["head"]["bias"] for params in (task.subject.params, result.params)]
    np.testing.assert_array_equal(*(bias[jnp.array(kept)] for bias in biases))
    assert result.cost.reward_evaluations == result.cost.gradient_steps == 0


def test_a_mask_needs_whole_classes_and_an_output_bias():
    samples = forget_samples(tiny.subject(), tiny.splits(), [1, 2])
    for task in (samples, tiny.task(0, head_bias=None)):
        with pytest.raises(ValueError, match="a logit mask does not apply: leave it out"):
            LogitMask().edit(task, KEY)


def test_retrain_never_predicts_the_class_and_knows_the_others():
    module, config = MLP(tiny.CLASSES, (5, 4)), TrainingConfig(80, 20, learning_rate=0.02)
    editor = Retrain(module, config)
    task = tiny.task(2)
    result = editor.edit(task, KEY)
    test = tiny.splits().test
    logits = np.asarray(module.apply({"params": result.params}, jnp.asarray(test.x)))
    assert not np.any(logits.argmax(axis=1) == 2)
    kept = test.y != 2
    assert np.mean(logits.argmax(axis=1)[kept] == test.y[kept]) > 0.8
    assert result.cost.gradient_steps == 80 * 3 and result.cost.reward_evaluations == 0
    assert isinstance(editor, Editor)

    again, other = editor.edit(task, KEY), editor.edit(task, jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, again.params, result.params)
    assert np.any(other.params["fc1"]["kernel"] != result.params["fc1"]["kernel"])


def test_retrain_hands_the_task_to_a_trainer_of_yours():
    def train(module, examples, config, key, weights):
        return {"sum": (weights[:, None] * examples.x).sum(0), "labels": weights @ examples.y}

    subject = Subject(tiny.subject().params, lambda params, x: jnp.zeros((len(x), tiny.CLASSES)))
    task = replace(tiny.task(1), subject=subject)  # its network takes whatever it is given
    found = Retrain(MLP(3), train=train).edit(task, KEY).params
    x, y = tiny.splits().train.x, tiny.splits().train.y
    np.testing.assert_allclose(found["sum"], x[y != 1].sum(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["labels"], y[y != 1].sum())


@pytest.mark.parametrize(("examples", "steps"), [(60, 4 * 3), (79, 4 * 3), (7, 4)])
def test_gradient_steps_count_whole_batches(examples, steps):
    assert gradient_steps(TrainingConfig(epochs=4, batch_size=20), examples) == steps
