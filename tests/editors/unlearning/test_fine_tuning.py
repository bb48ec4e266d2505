"""Training on what is kept, against a loop in NumPy."""

import jax
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.fine_tuning import ExactUnlearning, FineTune, L1Sparse
from modeledit_jax.edits.layers import fresh_leaves
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)
HEAD = ("head/bias", "head/kernel")


def _slope(label, weights):
    def slope(logits, rows, step):
        return by_hand.cross_entropy_slope(logits, label[rows], weights["retain"][rows])

    return slope


@pytest.mark.slow
def test_exact_unlearning_starts_anew_and_sees_no_example_to_forget():
    task = tiny.task(1)
    editor = ExactUnlearning(scope=1, learning_rate=0.05, steps=9, batch_size=7)
    x, label, weights = by_hand.sets_of(task)
    start = by_hand.leaves_of(task.subject.params)
    # The second of two keys that no step has.
    own = jax.random.split(jax.random.fold_in(KEY, editor.steps))[1]
    fresh = fresh_leaves({path: task.subject.params["head"][path[5:]] for path in HEAD}, own)
    begin = start | {path: np.asarray(leaf, np.float64) for path, leaf in fresh.items()}
    slope = _slope(label, weights)
    expected = by_hand.train(editor, KEY, x, weights, slope, begin, HEAD)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, HEAD)


@pytest.mark.slow
def test_the_price_on_weights_falls_and_then_is_gone():
    task = tiny.task(1)
    editor = L1Sparse(learning_rate=0.05, steps=10, batch_size=7, sparsity=0.3, free=0.4)
    x, label, weights = by_hand.sets_of(task)
    start = by_hand.leaves_of(task.subject.params)

    def price(leaf, step):  # the six first steps pay
        return 0.3 * max(1 - step / 6, 0) * np.sign(leaf)

    slope = _slope(label, weights)
    expected = by_hand.train(editor, KEY, x, weights, slope, start, task.site, price=price)
    by_hand.assert_leaves(editor.edit(task, KEY).params, expected, start, task.site)
    without = by_hand.train(editor, KEY, x, weights, slope, start, task.site)
    assert np.abs(without["fc2/kernel"]).sum() > 1.2 * np.abs(expected["fc2/kernel"]).sum()


@pytest.mark.parametrize("setting", [{"free": 1.0}, {"sparsity": -1.0}, {"sparsity": np.inf}])
def test_a_price_out_of_range_is_refused(setting):
    with pytest.raises(ValueError, match="sparsity finite and at least 0"):
        L1Sparse(**setting).edit(tiny.task(0), KEY)


def test_they_learn_from_retained_examples_alone():
    assert FineTune.draws == ExactUnlearning.draws == L1Sparse.draws == ("retain",)
