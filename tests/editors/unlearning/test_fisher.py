"""Dampening and noise by the Fisher information, against NumPy."""

import jax
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.fisher import SSD, FisherForgetting
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


def _squares(task, label):
    """Squared gradients of single examples by the kernel of fc2, ``[60, 5, 4]``."""
    leaves = by_hand.leaves_of(task.subject.params)
    x, _, _ = by_hand.sets_of(task)
    logits, inputs = by_hand.forward(leaves, x)
    slope = by_hand.cross_entropy_slope(logits, label, np.ones(60)) * 60
    back = (slope @ leaves["head/kernel"].T) * (inputs[2] > 0)
    return np.square(inputs[1][:, :, None] * back[:, None, :])


@pytest.mark.parametrize(("selection", "dampening"), [(1.2, 0.5), (2.0, 5.0)])
def test_dampening_is_that_of_the_formula(selection, dampening):
    task = tiny.task(1)
    _, label, weights = by_hand.sets_of(task)
    squares, forget = _squares(task, label), weights["forget"]
    own, every = np.tensordot(forget, squares, 1) / forget.sum(), squares.mean(axis=0)
    kernel = np.asarray(task.leaves["fc2/kernel"], np.float64)
    chosen = own > selection * every
    factor = np.minimum(dampening * every / np.where(own > 0, own, 1), 1)
    result = SSD(selection=selection, dampening=dampening).edit(task, KEY)
    found = result.params["fc2"]["kernel"]
    expected = np.where(chosen, factor * kernel, kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert 0 < chosen.sum() < chosen.size
    np.testing.assert_array_equal(np.asarray(found)[~chosen], task.leaves["fc2/kernel"][~chosen])
    assert result.cost.gradient_steps == result.cost.reward_evaluations == 0


@pytest.mark.slow
def test_noise_has_the_variance_that_the_information_leaves():
    task = tiny.task(1)
    _, _, weights = by_hand.sets_of(task)
    logits = by_hand.forward(by_hand.leaves_of(task.subject.params), task.roles["train"].x)[0]
    p, retain = by_hand.softmax(logits, axis=1), weights["retain"]
    information = sum(
        np.tensordot(retain * p[:, c], _squares(task, np.full(60, c)), 1) for c in range(3)
    )
    information = information / retain.sum()
    variance = 1e-2 * np.minimum(1 / np.maximum(information, 1e-12), 50.0)
    editor = FisherForgetting(noise=1e-2, bound=50.0)
    kernel = np.asarray(task.leaves["fc2/kernel"], np.float64)
    drawn = [editor.edit(task, key).params["fc2"]["kernel"] for key in jax.random.split(KEY, 60)]
    units = (np.stack(drawn) - kernel) / np.sqrt(variance)
    np.testing.assert_allclose(units.std(axis=0), 1.0, atol=0.35)
    np.testing.assert_allclose(units.std(), 1.0, atol=0.05)
    assert abs(units.mean()) < 0.1 and variance.max() == 0.5 > variance.min()
    normal = jax.random.normal(jax.random.split(KEY, 1)[0], kernel.shape)
    found = FisherForgetting(noise=1e-2, bound=50.0).edit(task, KEY).params["fc2"]["kernel"]
    np.testing.assert_allclose(found, kernel + np.sqrt(variance) * normal, rtol=1e-3, atol=1e-5)


WRONG = (SSD(selection=0.0), SSD(dampening=-1.0), FisherForgetting(noise=-1.0))


@pytest.mark.parametrize("editor", [*WRONG, FisherForgetting(bound=0.0)])
def test_settings_out_of_range_are_refused(editor):
    with pytest.raises(ValueError, match="both finite"):
        editor.edit(tiny.task(0), KEY)
