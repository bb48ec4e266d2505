"""SCRUB and Bad Teacher against loops in NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from modeledit_jax.editors.unlearning.distillation import SCRUB, BadTeacher, divergences
from modeledit_jax.editors.unlearning.gradient_editor import network_of, training_sets
from modeledit_jax.edits.layers import fresh_leaves
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergences_are_those_of_scipy(temperature):
    rng = np.random.default_rng(0)
    teacher, student = 3 * rng.normal(size=(2, 5, 4))
    p, q = (scipy.special.softmax(z / temperature, axis=1) for z in (teacher, student))
    expected = temperature**2 * scipy.stats.entropy(p, q, axis=1)
    found = divergences(jnp.asarray(teacher), jnp.asarray(student), temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    one = divergences(jnp.asarray([[0.5]]), jnp.asarray([[-1.0]]))  # one logit is two classes
    two = divergences(jnp.asarray([[0.0, 0.5]]), jnp.asarray([[0.0, -1.0]]))
    np.testing.assert_allclose(one, two, rtol=1e-6)


def _scrub(editor, task):
    x, label, weights = by_hand.sets_of(task)
    start = by_hand.leaves_of(task.subject.params)
    teacher = by_hand.forward(start, x)[0]

    def slope(logits, rows, step):
        lost, kept = (
            by_hand.divergence_slope(teacher[rows], logits, weights[name][rows], editor.temperature)
            for name in ("forget", "retain")
        )
        if step % editor.cycle < editor.ascents and step // editor.cycle < editor.max_cycles:
            return -lost
        answers = by_hand.cross_entropy_slope(logits, label[rows], weights["retain"][rows])
        return editor.ce_weight * answers + editor.kl_weight * kept

    return by_hand.train(editor, KEY, x, weights, slope, start, task.site), start


SETTINGS = {"learning_rate": 0.1, "batch_size": 7, "temperature": 2.0, "kl_weight": 0.5}
CYCLES = {"steps": 12, "cycle": 4, "ascents": 2, "max_cycles": 2}


@pytest.mark.slow
def test_scrub_ascends_and_descends_as_its_cycles_say():
    task, editor = tiny.task(1), SCRUB(**SETTINGS, **CYCLES)
    expected, start = _scrub(editor, task)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, task.site)


@pytest.mark.slow
def test_rewinding_returns_the_cycle_closest_to_held_out_accuracy():
    task = tiny.task(1)
    editor = SCRUB(**SETTINGS | {"learning_rate": 1.0}, **CYCLES, rewind=True)
    network = network_of(task, "site")
    leaves = {"fc2/kernel": jnp.zeros((5, 4))}
    kernel = task.leaves["fc2/kernel"]
    kept = {"fc2/kernel": jnp.stack([kernel, -kernel, 3 * kernel])}

    def accuracy(kernel, role):
        own = by_hand.leaves_of(task.subject.params) | {"fc2/kernel": np.asarray(kernel)}
        sets = task.roles[role]
        chosen = sets.weights["forget"] > 0
        return np.mean(by_hand.forward(own, sets.x[chosen])[0].argmax(1) == 1)

    goal = accuracy(leaves["fc2/kernel"], "reward")
    apart = [abs(accuracy(k, "train") - goal) for k in kept["fc2/kernel"]]
    assert len(set(apart)) > 1
    found = editor.chosen(task, network, leaves, kept)
    np.testing.assert_array_equal(found["fc2/kernel"], kept["fc2/kernel"][np.argmin(apart)])
    # The whole edit is one of the cycles of the same training.
    ends = [_scrub(replace(editor, rewind=False), task)[0]["fc2/kernel"]]
    result = editor.edit(task, KEY).params["fc2"]["kernel"]
    assert np.all(np.isfinite(result)) and ends[0].shape == result.shape


@pytest.mark.slow
def test_bad_teacher_learns_from_the_untrained_and_the_unedited_network():
    # Not Adam, which turns the rounding of a gradient of zero into a whole step.
    task, editor = tiny.task(1), BadTeacher("site", "sgd", learning_rate=0.5, steps=9, batch_size=7)
    x, _, weights = by_hand.sets_of(task)
    start = by_hand.leaves_of(task.subject.params)
    own = jax.random.split(jax.random.fold_in(KEY, editor.steps))[0]
    fresh = fresh_leaves({p: jnp.asarray(v, jnp.float32) for p, v in start.items()}, own)
    bad = by_hand.forward({p: np.asarray(v, np.float64) for p, v in fresh.items()}, x)[0]
    teacher = np.where(weights["forget"][:, None] > 0, bad, by_hand.forward(start, x)[0])
    network = network_of(task, "site")
    found = editor.prepared(task, network, training_sets(task), own).targets["teacher"]
    np.testing.assert_allclose(found, teacher, rtol=1e-3, atol=1e-5)

    def slope(logits, rows, step):
        return sum(
            by_hand.divergence_slope(teacher[rows], logits, weights[name][rows])
            for name in ("forget", "retain")
        )

    expected = by_hand.train(editor, KEY, x, weights, slope, start, task.site)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, task.site)


@pytest.mark.parametrize("setting", [{"temperature": 0.0}, {"cycle": 0}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="temperature must be finite and above 0, cycle"):
        SCRUB(**setting).edit(tiny.task(0), KEY)
