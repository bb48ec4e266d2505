"""What is left inside of a network: by hand, and where the answer is known."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import split_images
from modeledit_jax.editors.unlearning.references import LogitMask, Retrain
from modeledit_jax.edits.layers import fresh_leaves
from modeledit_jax.subjects.image_classifiers import CNN, MLP
from modeledit_jax.subjects.training import (
    TrainingConfig,
    image_recipe,
    train_subject,
    train_subjects,
)
from modeledit_jax.tasks.inner_forgetting import (
    InnerMeasurement,
    hidden_features,
    inner_measurements,
    inner_metrics,
)
from modeledit_jax.tasks.unlearning import forget_classes, forget_samples
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)
RECIPE = TrainingConfig(40, 20, learning_rate=0.02)


def test_hidden_features_are_what_the_later_layers_read():
    subject, x = tiny.subject(), tiny.splits().test.x
    _, inputs = by_hand.forward(by_hand.leaves_of(subject.params), x)
    found = hidden_features(subject.apply, subject.params, jnp.asarray(x))
    assert list(found) == ["fc2", "head"]
    for name, expected in zip(found, inputs[1:], strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_hidden_features_of_convolutions_are_means_over_positions():
    module = CNN(3, channels=(4, 4), hidden=(6,))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6, 6, 1)), jnp.float32)
    params = module.init(KEY, x)["params"]

    def apply(params, x):
        return module.apply({"params": params}, x)

    found = hidden_features(apply, params, x)
    assert {name: values.shape for name, values in found.items()} == {
        "conv2": (5, 36),
        "fc1": (5, 16),
        "head": (5, 6),
    }


def _relearned_by_hand(task, leaves, settings, key, goal):
    x, label, weights = by_hand.sets_of(task)
    forget = weights["forget"] > 0
    velocity = {path: np.zeros_like(leaf) for path, leaf in leaves.items()}
    leaves = dict(leaves)
    for step, own in enumerate(jax.random.split(key, settings.steps)):
        if (by_hand.forward(leaves, x[forget])[0].argmax(1) == label[forget]).mean() >= goal:
            return step
        rows = np.asarray(jax.random.randint(own, (settings.batch_size,), 0, len(x)))
        logits, inputs = by_hand.forward(leaves, x[rows])
        slope = by_hand.cross_entropy_slope(logits, label[rows], np.ones(len(rows)))
        for path, gradient in by_hand.backward(leaves, inputs, slope).items():
            velocity[path] = 0.9 * velocity[path] + gradient
            leaves[path] = leaves[path] - settings.learning_rate * velocity[path]
    return settings.steps


@pytest.mark.slow
def test_relearning_and_membership_by_hand():
    task = tiny.task(1, base=_trained())
    settings = InnerMeasurement(steps=40, learning_rate=0.05, batch_size=16, repeats=2, draws=2)
    edited = jax.tree.map(lambda leaf: 0.3 * leaf, task.subject.params)
    x, label, weights = by_hand.sets_of(task)
    forget = weights["forget"] > 0
    original, leaves = (by_hand.leaves_of(p) for p in (task.subject.params, edited))
    accuracy = (by_hand.forward(original, x[forget])[0].argmax(1) == label[forget]).mean()
    plain, fresh = [], []
    last = {path: jnp.asarray(edited["head"][path[5:]]) for path in ("head/bias", "head/kernel")}
    for key in jax.random.split(jax.random.key(0), 2):
        head = fresh_leaves(last, jax.random.fold_in(key, 40))
        anew = leaves | {path: np.asarray(leaf, np.float64) for path, leaf in head.items()}
        for found, start in ((plain, leaves), (fresh, anew)):
            found.append(_relearned_by_hand(task, start, settings, key, 0.95 * accuracy))
    found = inner_measurements(task, edited, settings)
    assert found["relearn_steps"] == np.mean(plain)
    assert found["relearn_steps_fresh"] == np.mean(fresh) > 0
    losses = []
    for role in ("train", "test"):
        sets = task.roles[role]
        own = sets.weights["forget"] > 0
        p = by_hand.softmax(by_hand.forward(leaves, sets.x[own])[0], axis=1)[:, 1]
        losses.append(-np.log(p))
    member = np.repeat([1, 0], [len(own) for own in losses])
    expected = roc_auc_score(member, -np.concatenate(losses))
    assert found["membership_auc"] == pytest.approx(expected, abs=1e-6)


@lru_cache
def _trained():
    train = tiny.splits().train
    examples = replace(train, x=jnp.asarray(train.x), y=jnp.asarray(train.y))
    keys = jax.random.split(KEY, 1)
    return train_subjects(MLP(tiny.CLASSES, (5, 4)), examples, RECIPE, keys)[0]


@pytest.mark.slow
def test_known_answers_of_original_retrain_and_mask():
    splits = split_images(load_images("digits"))
    module = MLP(10)
    recipe = image_recipe(module, len(splits.train))
    subject = train_subject(module, splits.train, jax.random.key(0))
    task = forget_classes(subject, splits, 7)
    retrain = Retrain(module, recipe)
    networks = {
        "original": subject.params,
        "mask": LogitMask().edit(task, KEY).params,
        "retrain": retrain.edit(task, jax.random.key(11)).params,
        "again": retrain.edit(task, jax.random.key(12)).params,
    }
    measured = {name: inner_measurements(task, params) for name, params in networks.items()}
    found = {name: inner_metrics(own, measured["retrain"]) for name, own in measured.items()}
    assert {value for name, value in found["retrain"].items() if "index" not in name} == {0.0}
    assert found["retrain"]["relearn_index"] == found["retrain"]["relearn_index_fresh"] == 1.0
    # Hidden layers of a masked network are those of the original one.
    for name, value in found["original"].items():
        if name != "relearn_index":
            assert found["mask"][name] == pytest.approx(value, abs=1e-6)
    assert found["original"]["relearn_index"] == 0.0
    assert found["mask"]["relearn_index"] > 2.0 and found["mask"]["relearn_index_fresh"] < 0.7
    for name in ("prototype_gap_1_layer_1", "prototype_gap_1_layer_2"):
        assert found["original"][name] > 0.1 > abs(found["again"][name])
    assert abs(found["again"]["membership_gap"]) < 0.1


@pytest.mark.slow
def test_single_samples_are_compared_with_what_was_never_trained_on():
    task = forget_samples(tiny.subject(), tiny.splits(), [3, 4])
    settings = InnerMeasurement(steps=1, repeats=1, draws=1)
    found = inner_measurements(task, task.subject.params, settings)
    assert 0 <= found["membership_auc"] <= 1


def test_metrics_are_relative_to_retrain():
    own = {"prototype_1_layer_1": 0.8, "relearn_steps": 3.0, "membership_auc": 0.6}
    retrain = {"prototype_1_layer_1": 0.5, "relearn_steps": 12.0, "membership_auc": 0.5}
    found = inner_metrics(own, retrain)
    assert found == pytest.approx(
        {"prototype_gap_1_layer_1": 0.3, "relearn_index": 0.25, "membership_gap": 0.1}
    )
    assert inner_metrics(own, retrain | {"relearn_steps": 0.0})["relearn_index"] == 3.0
