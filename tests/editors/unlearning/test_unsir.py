"""UNSIR: its noise, and its two phases, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.gradient_editor import network_of, training_sets
from modeledit_jax.editors.unlearning.unsir import UNSIR, NoiseSettings, error_maximizing
from modeledit_jax.tasks.unlearning import forget_samples
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)
EDITOR = UNSIR(
    learning_rate=0.05, steps=10, batch_size=7, noise=NoiseSettings(inputs=3, steps=5), impair=0.4
)


def _linear(params, x):
    return x @ params


@pytest.mark.slow
def test_noise_of_a_linear_network_is_that_of_adam_by_hand():
    rng = np.random.default_rng(0)
    W, x = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
    label = np.array([0, 2])
    settings = NoiseSettings(steps=6, learning_rate=0.1, price=0.2)
    found = error_maximizing(
        settings, _linear, *(jnp.asarray(a, jnp.float32) for a in (W, x)), jnp.asarray(label)
    )
    m, v = np.zeros_like(x), np.zeros_like(x)
    for t in range(1, 7):
        slope = by_hand.cross_entropy_slope(x @ W, label, np.ones(2)) @ W.T
        g = 0.2 * 2 * x / 2 - slope
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(found, x, rtol=1e-3, atol=1e-4)


def _with_noise(task):
    own = jax.random.split(jax.random.fold_in(KEY, EDITOR.steps))[0]
    return EDITOR.prepared(task, network_of(task, "site"), training_sets(task), own)


@pytest.mark.slow
def test_every_class_has_noise_of_its_own_label_that_the_network_is_bad_at():
    task = tiny.task((0, 2))
    sets = _with_noise(task)
    np.testing.assert_array_equal(sets.label[60:], [0, 0, 0, 2, 2, 2])
    np.testing.assert_array_equal(sets.weights["noise"], np.arange(66) >= 60)
    assert sets.weights["retain"][60:].sum() == sets.weights["forget"][60:].sum() == 0
    logits = np.asarray(task.subject.apply(task.subject.params, sets.x[60:]))
    probability = by_hand.softmax(logits, axis=1)[np.arange(6), sets.label[60:]]
    assert probability.mean() < 1 / 3


@pytest.mark.slow
def test_the_noise_impairs_and_the_rest_repairs():
    task = tiny.task(1)
    sets = _with_noise(task)
    x, label = np.asarray(sets.x), np.asarray(sets.label)
    weights = {name: np.asarray(weight) for name, weight in sets.weights.items()}

    def slope(logits, rows, step):
        kept, noise = (
            by_hand.cross_entropy_slope(logits, label[rows], weights[name][rows])
            for name in ("retain", "noise")
        )
        return kept + (step < 4) * noise

    start = by_hand.leaves_of(task.subject.params)
    expected = by_hand.train(EDITOR, KEY, x, weights, slope, start, task.site)
    by_hand.assert_leaves(EDITOR.edit(task, KEY).params, expected, start, task.site)


def test_single_samples_and_settings_out_of_range_are_refused():
    samples = forget_samples(tiny.subject(), tiny.splits(), [3])
    with pytest.raises(ValueError, match="forgets no whole class, which UNSIR is about"):
        UNSIR().edit(samples, KEY)
    with pytest.raises(ValueError, match="impair must be above 0"):
        UNSIR(impair=0.0).edit(tiny.task(0), KEY)
    with pytest.raises(ValueError, match="noise needs at least one input"):
        UNSIR(noise=NoiseSettings(inputs=0)).edit(tiny.task(0), KEY)
