"""The loop of all gradient editors: its scope, its draws, what it refuses."""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.editor import Editor
from modeledit_jax.editors.unlearning.fine_tuning import FineTune
from modeledit_jax.editors.unlearning.gradient_editor import (
    Batch,
    GradientEditor,
    draw_rows,
    training_sets,
)
from modeledit_jax.tasks.unlearning import forget_in_turn
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Shrink(GradientEditor):
    """Descends on the sum of squares of half of the entries, whatever the network says."""

    draws: ClassVar[tuple[str, ...]] = ("forget",)

    def objective(self, batch, leaves, step):
        return sum(jnp.square(leaf).sum() for leaf in leaves.values()) / 2 + 0 * batch.logits.sum()

    def mask(self, network, sets, features):
        return {path: jnp.zeros_like(leaf).at[::2].set(1) for path, leaf in network.leaves.items()}

    def kept_steps(self):
        return 2

    def chosen(self, task, network, leaves, kept):
        assert all(len(values) == 2 for values in kept.values())  # after steps 2 and 3
        assert all(np.array_equal(kept[path][1], leaves[path]) for path in leaves)
        return {path: values[0] for path, values in kept.items()}


def test_masked_entries_stay_and_kept_leaves_are_those_of_their_step():
    task = tiny.task(1)
    editor = Shrink(learning_rate=0.1, momentum=0.0, steps=3, batch_size=2)
    result = editor.edit(task, KEY)
    before, after = np.asarray(task.leaves["fc2/kernel"]), result.params["fc2"]["kernel"]
    np.testing.assert_array_equal(after[1::2], before[1::2])
    # Steps 0 and 1 of three along a cosine.
    factor = (1 - 0.1) * (1 - 0.1 * 0.5 * (1 + np.cos(np.pi / 3)))
    np.testing.assert_allclose(after[::2], factor * before[::2], rtol=1e-5)
    assert isinstance(editor, Editor) and result.cost.gradient_steps == 3


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("scope", ["site", "network", 1])
def test_every_step_is_that_of_the_formula_at_every_scope(optimizer, scope):
    task = tiny.task(1)
    editor = FineTune(scope, optimizer, learning_rate=0.05, steps=9, batch_size=7)
    x, label, weights = by_hand.sets_of(task)

    def slope(logits, rows, step):
        return by_hand.cross_entropy_slope(logits, label[rows], weights["retain"][rows])

    start = by_hand.leaves_of(task.subject.params)
    paths = {"site": task.site, "network": by_hand.PATHS, 1: ("head/bias", "head/kernel")}[scope]
    expected = by_hand.train(editor, KEY, x, weights, slope, start, paths)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, paths)


def test_a_batch_has_rows_of_each_of_its_sets_alike():
    weight = jnp.asarray([0, 1, 0, 1, 1, 0.0])
    members = {"few": (jnp.argsort(weight <= 0, stable=True), (weight > 0).sum())}
    rows = np.asarray(draw_rows(KEY, 6, draws=("few", "all"), size=300, members=members))
    few, every = (np.bincount(part, minlength=6) for part in (rows[:300], rows[300:]))
    assert few[[0, 2, 5]].sum() == 0 and few[[1, 3, 4]].min() > 70
    assert every.min() > 25 and len(rows) == 600


def test_means_are_over_the_examples_of_a_set():
    logits = jnp.log(jnp.asarray([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]]))
    weights = {"retain": jnp.asarray([1.0, 2.0, 0.0]), "forget": jnp.zeros(3)}
    batch = Batch(logits, jnp.asarray([0, 1, 0]), weights, {})
    expected = -(np.log(0.5) + 2 * np.log(0.8)) / 3
    np.testing.assert_allclose(batch.cross_entropy("retain"), expected, rtol=1e-6)
    assert batch.cross_entropy("forget") == 0.0
    other = -(np.log(0.5) + 2 * np.log(0.2)) / 3
    found = batch.cross_entropy("retain", jnp.asarray([1, 0, 0]))
    np.testing.assert_allclose(found, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite"),
        ({"momentum": -0.1}, "momentum must be finite and at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        FineTune(**setting).edit(tiny.task(0), KEY)


def test_tasks_without_a_set_or_with_requests_in_turn_are_refused():
    task = tiny.task(0)
    train = task.roles["train"]
    for name in ("retain", "forget"):
        weights = {**train.weights, name: np.zeros(60, np.float32)}
        roles = {**task.roles, "train": replace(train, weights=weights)}
        with pytest.raises(ValueError, match="none to forget in its train role"):
            training_sets(replace(task, roles=roles))
    with pytest.raises(ValueError, match="forgets in turn: this editor takes one request"):
        training_sets(forget_in_turn(tiny.subject(), tiny.splits(), [0, 1]))
