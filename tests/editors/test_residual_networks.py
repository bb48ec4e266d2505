"""Editors of a trained `ResNet` on digits: searches in both worlds, and specialized editors."""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import modeledit_jax as me
from modeledit_jax.edits.layers import weight_paths
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.presets.preset import preset
from modeledit_jax.subjects.image_classifiers import make_classifier
from modeledit_jax.subjects.training import TrainingConfig, train_subject

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FORGOTTEN = 7
NORMS = ("resnet", "resnet-batchnorm")
CONVOLUTION = "stage3_block1/conv2/kernel"


@lru_cache
def task(name="resnet", site="fc2/kernel"):
    splits = me.split_images(me.load_images("digits"))
    return me.forget_classes(subject(name), splits, FORGOTTEN, site=site)


@lru_cache
def subject(name):
    splits = me.split_images(me.load_images("digits"))
    config = TrainingConfig(epochs=10, batch_size=64, learning_rate=3e-3)
    return train_subject(make_classifier(name, 10), splits.train, jax.random.key(0), config)


def accuracies(task, params):
    """On test images, of the forgotten class and of the others."""
    test = task.roles["test"]
    predicted = np.asarray(task.subject.apply(params, jnp.asarray(test.x))).argmax(-1)
    y = np.asarray(test.targets)
    hit = predicted == y
    return hit[y == FORGOTTEN].mean(), hit[y != FORGOTTEN].mean()


def moved(task, params):
    before, after = (jax.tree.leaves(p) for p in (task.subject.params, params))
    return {
        path
        for path, a, b in zip(leaf_paths(params), before, after, strict=True)
        if np.asarray(a).tobytes() != np.asarray(b).tobytes()
    }


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("world", ["mask", "shift"])
def test_ppo_forgets_the_class_and_moves_nothing_else(world, name):
    before = accuracies(task(name), task(name).subject.params)
    assert min(before) > 0.95
    params = me.PPO(world=world, budget=2_000).edit(task(name), jax.random.key(1)).params
    forget, retain = accuracies(task(name), params)
    assert forget < 0.05 and retain > before[1] - 0.05
    assert moved(task(name), params) == {"fc2/kernel"}


@pytest.mark.parametrize(
    "editor", [me.SNES(world="shift", budget=1_000), preset("unlearning/ridge")]
)
def test_a_convolution_can_be_edited(editor):
    """A dense layer on patches for all editors, closed forms among them."""
    here = task(site=CONVOLUTION)
    params = editor.edit(here, jax.random.key(1)).params
    assert moved(here, params) == {CONVOLUTION}
    forget, retain = accuracies(here, params)
    assert forget < accuracies(here, here.subject.params)[0] - 0.1 and retain > 0.5


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("method", ["ssd", "fisher", "scrub", "influence"])
@pytest.mark.parametrize("scope", ["site", "network"])
def test_specialized_editors_run(method, name, scope):
    """Those that need gradients of single examples, and one that trains."""
    editor = replace(preset(f"unlearning/{method}"), scope=scope)
    if method == "scrub":
        editor = replace(editor, steps=30)  # the first ten ascend from where the slope is zero
    if method == "influence":
        editor = replace(editor, iterations=10)
    params = editor.edit(task(name), jax.random.key(1)).params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
    allowed = {"fc2/kernel"} if scope == "site" else set(weight_paths(params))
    found = moved(task(name), params)
    assert found and found <= allowed
    if scope == "network":  # ssd leaves what matters little
        assert len(found) > 5 if method == "ssd" else found == allowed
