"""Other labels and training on them, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.gradient_editor import network_of, training_sets
from modeledit_jax.editors.unlearning.relabeling import (
    BoundaryShrink,
    RandomLabel,
    SalUn,
    other_classes,
)
from modeledit_jax.edits.split_apply import cached_features
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)
SMALL = {"learning_rate": 0.05, "steps": 9, "batch_size": 7}


def _prepared(editor, task):
    """The labels that the editor trains on, and its network and sets."""
    network = network_of(task, editor.scope)
    own = jax.random.split(jax.random.fold_in(KEY, editor.steps))[0]
    sets = editor.prepared(task, network, training_sets(task), own)
    return network, sets, np.asarray(sets.targets["label"])


def _expected(editor, task, labels, mask=None):
    x, label, weights = by_hand.sets_of(task)

    def slope(logits, rows, step):
        lost = by_hand.cross_entropy_slope(logits, labels[rows], weights["forget"][rows])
        if isinstance(editor, BoundaryShrink):
            return lost
        kept = by_hand.cross_entropy_slope(logits, label[rows], weights["retain"][rows])
        return lost + editor.retain_weight * kept

    start = by_hand.leaves_of(task.subject.params)
    return by_hand.train(editor, KEY, x, weights, slope, start, task.site, mask=mask), start


def test_other_labels_are_neither_true_nor_forgotten():
    label = jnp.asarray([0, 1, 2, 2])
    classes = other_classes(tiny.task(1), network_of(tiny.task(1), "site"), label)
    expected = [[False, False, True], [True, False, True], [True, False, False]]
    np.testing.assert_array_equal(classes, [*expected, expected[2]])
    samples = forget_samples(tiny.subject(), tiny.splits(), [3])
    found = other_classes(samples, network_of(samples, "site"), label)
    np.testing.assert_array_equal(found.sum(axis=1), 2)


def test_random_labels_are_drawn_from_all_others():
    task = forget_samples(tiny.subject(), tiny.splits(), list(range(40)))
    _, sets, labels = _prepared(RandomLabel(), task)
    assert np.all(labels != np.asarray(sets.label))
    off = (labels - np.asarray(sets.label)) % 3
    assert 0.3 < np.mean(off == 1) < 0.7


@pytest.mark.slow
def test_random_labels_are_trained_on_as_the_formula_says():
    task, editor = tiny.task(1), RandomLabel(retain_weight=0.7, **SMALL)
    _, _, labels = _prepared(editor, task)
    expected, start = _expected(editor, task, labels)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, task.site)


@pytest.mark.slow
def test_only_salient_weights_move():
    task, editor = tiny.task(1), SalUn(share=0.4, **SMALL)
    network, sets, labels = _prepared(editor, task)
    x, label, weights = by_hand.sets_of(task)
    logits, inputs = by_hand.forward(by_hand.leaves_of(task.subject.params), x)
    slope = by_hand.cross_entropy_slope(logits, label, weights["forget"])
    size = np.abs(
        by_hand.backward(by_hand.leaves_of(task.subject.params), inputs, slope)["fc2/kernel"]
    )
    mask = (size >= np.sort(size.reshape(-1))[-round(0.4 * size.size)]) & (size > 0)
    features = cached_features(network.apply, network.params, sets.x, network.paths)
    found = editor.mask(network, sets, features)
    np.testing.assert_array_equal(found["fc2/kernel"], mask)
    expected, start = _expected(editor, task, labels, {"fc2/kernel": mask})
    params = editor.edit(task, KEY).params
    by_hand.assert_leaves(params, expected, start, task.site)
    kernel = np.asarray(params["fc2"]["kernel"])
    np.testing.assert_array_equal(kernel[~mask], np.asarray(task.leaves["fc2/kernel"])[~mask])
    assert 0 < mask.sum() <= 8


@pytest.mark.slow
def test_boundary_shrink_takes_the_likeliest_other_class_across_the_boundary():
    task, editor = tiny.task(1), BoundaryShrink(epsilon=0.3, **SMALL)
    _, _, labels = _prepared(editor, task)
    x, label, _ = by_hand.sets_of(task)
    leaves = by_hand.leaves_of(task.subject.params)
    logits, inputs = by_hand.forward(leaves, x)
    slope = by_hand.cross_entropy_slope(logits, label, np.ones(60)) * 60
    for layer, read in zip(reversed(by_hand.LAYERS), reversed(inputs), strict=True):
        slope = slope @ leaves[f"{layer}/kernel"].T * ((read > 0) | (layer == "fc1"))
    across = by_hand.forward(leaves, x + 0.3 * np.sign(slope))[0]
    across[:, 1] = -np.inf
    across[np.arange(60), label] = -np.inf
    np.testing.assert_array_equal(labels, across.argmax(axis=1))
    expected, start = _expected(editor, task, labels)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, task.site)


@pytest.mark.parametrize("share", [0.0, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1"):
        SalUn(share=share).edit(tiny.task(0), KEY)
