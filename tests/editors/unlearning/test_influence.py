"""The influence step against a linear system that is written down and solved in NumPy."""

import jax
import numpy as np
import pytest

from modeledit_jax.editors.unlearning.influence import Influence
from tests import tiny
from tests.editors.unlearning import by_hand

KEY = jax.random.key(0)


def _system(task):
    """Gauss–Newton matrix of the retained examples and both gradients, by the kernel of fc2."""
    leaves = by_hand.leaves_of(task.subject.params)
    x, label, weights = by_hand.sets_of(task)
    logits, inputs = by_hand.forward(leaves, x)
    p = by_hand.softmax(logits, axis=1)
    gate = (inputs[2] > 0)[:, :, None] * leaves["head/kernel"]  # [60, 4, 3]
    jacobian = np.einsum("nd,nhc->ncdh", inputs[1], gate).reshape(60, 3, -1)
    middle = np.einsum("nc,ck->nck", p, np.eye(3)) - p[:, :, None] * p[:, None, :]
    share = weights["retain"] / weights["retain"].sum()
    curvature = np.einsum("n,nca,nck,nkb->ab", share, jacobian, middle, jacobian)
    gradients = []
    for name in ("forget", "retain"):
        slope = by_hand.cross_entropy_slope(logits, label, weights[name])
        gradients.append(np.einsum("nc,nca->a", slope, jacobian))
    return curvature, *gradients, weights


@pytest.mark.parametrize(
    ("strength", "damping"), [(1.0, 0.1), pytest.param(5.0, 0.01, marks=pytest.mark.slow)]
)
def test_it_is_the_damped_newton_step(strength, damping):
    task = tiny.task(1)
    curvature, lost, kept, weights = _system(task)
    share = weights["forget"].sum() / 60
    solved = np.linalg.solve(curvature + damping * np.eye(20), lost - kept)
    kernel = np.asarray(task.leaves["fc2/kernel"], np.float64)
    expected = kernel + strength * share * solved.reshape(kernel.shape)
    editor = Influence(strength=strength, damping=damping, tolerance=1e-7)
    found = editor.edit(task, KEY).params["fc2"]["kernel"]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)
    assert np.abs(expected - kernel).max() > 0.01


@pytest.mark.parametrize("setting", [{"damping": 0.0}, {"iterations": 0}, {"strength": np.nan}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ValueError, match="all settings but the strength must be finite"):
        Influence(**setting).edit(tiny.task(0), KEY)
