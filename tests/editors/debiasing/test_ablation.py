"""Greedy ablation against a loop over all candidates; random edits of the size asked for."""

import jax
import numpy as np
import pytest

from modeledit_jax.editors.debiasing.ablation import NeuronAblation, RandomEdit
from modeledit_jax.editors.editor import Editor
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.evaluation.forgetting import relative_edit_size
from tests import tiny
from tests.editors import biased

KEY = jax.random.key(0)
CANDIDATES = 5 + 4  # rows and columns of the tiny fc2/kernel


def _quietness(sets, edit):
    """Higher for fewer and smaller weights, so that every removal pays."""
    return -sum((leaf**2).sum() for leaf in edit.leaves.values())


def _greedy(W, rounds):
    """Reference for `_quietness`: removes the row or column of the largest norm."""
    W, removed = W.copy(), []
    for _ in range(rounds):
        norms = np.concatenate([(W**2).sum(axis=1), (W**2).sum(axis=0)])
        axis, index = divmod(int(norms.argmax()), W.shape[0])
        removed.append(("fc2/kernel", axis, index))
        W[(index, slice(None)) if axis == 0 else (slice(None), index)] = 0.0
    return W, removed


def test_ablation_is_greedy():
    task = tiny.task(0, reward=_quietness)
    result = NeuronAblation(3, 1000).edit(task, KEY)
    W, removed = _greedy(np.asarray(task.leaves["fc2/kernel"]), 3)
    np.testing.assert_array_equal(result.params["fc2"]["kernel"], W)
    assert result.trace["removed"] == removed
    assert result.cost.reward_evaluations == 3 * CANDIDATES and result.cost.gradient_steps == 0
    assert np.all(np.diff(result.trace["score"]) > 0)
    for path in ("fc1", "head"):
        for name in ("kernel", "bias"):
            assert result.params[path][name] is task.subject.params[path][name]


@pytest.mark.parametrize(("budget", "removed"), [(CANDIDATES, 1), (3 * CANDIDATES - 1, 2)])
def test_the_budget_limits_the_rounds(budget, removed):
    result = NeuronAblation(budget=budget).edit(tiny.task(0, reward=_quietness), KEY)
    assert len(result.trace["removed"]) == removed
    assert result.cost.reward_evaluations == removed * CANDIDATES <= budget


def test_ablation_stops_when_nothing_helps_and_pays_for_the_last_look():
    task = tiny.task(0, reward=lambda sets, edit: -_quietness(sets, edit))
    result = NeuronAblation(budget=1000).edit(task, KEY)
    np.testing.assert_array_equal(result.params["fc2"]["kernel"], task.leaves["fc2/kernel"])
    assert result.trace["removed"] == [] and result.cost.reward_evaluations == CANDIDATES


def test_ablation_of_several_matrices_leaves_their_biases():
    task = tiny.task(0, site=["fc1/*", "fc2/*"], reward=_quietness)
    result = NeuronAblation(20, 10_000).edit(task, KEY)
    assert {path for path, _, _ in result.trace["removed"]} == {"fc1/kernel", "fc2/kernel"}
    for name in ("fc1", "fc2"):
        np.testing.assert_array_equal(result.params[name]["kernel"], 0.0)
        np.testing.assert_array_equal(
            result.params[name]["bias"], task.subject.params[name]["bias"]
        )


@pytest.mark.slow
def test_ablation_raises_the_reward_of_bias_mitigation():
    task = biased.task()
    result = NeuronAblation(2, 200).edit(task, KEY)
    assert biased.changed(result.params) == {"fc2/kernel"}
    rows, columns = ((result.params["fc2"]["kernel"] == 0).all(axis=axis).sum() for axis in (1, 0))
    assert rows + columns >= len(result.trace["removed"]) >= 1
    assert isinstance(NeuronAblation(), Editor)


def test_bad_input_of_ablation_names_the_cure():
    task = tiny.task(0, reward=_quietness)
    with pytest.raises(ValueError, match=r"budget of 8 .* takes 9: raise the budget"):
        NeuronAblation(budget=CANDIDATES - 1).edit(task, KEY)
    with pytest.raises(ValueError, match="has no matrix whose rows and columns"):
        NeuronAblation().edit(tiny.task(0, site="fc2/bias", reward=_quietness), KEY)

    def broken(sets, edit):
        return np.float32(1.0) / (edit.leaves["fc2/kernel"][0, 0] != 0)  # only once removed

    with pytest.raises(ValueError, match="not finite"):
        NeuronAblation(budget=100).edit(tiny.task(0, reward=broken), KEY)


@pytest.mark.slow
@pytest.mark.parametrize(("site", "rank"), [("fc2/kernel", None), ("fc2/*", 2)])
def test_a_random_edit_has_the_size_asked_for(site, rank):
    task = biased.task(site)
    result = RandomEdit(0.3, rank).edit(task, KEY)
    assert biased.changed(result.params) == set(task.site)
    edited = get_leaves(result.params, task.site)
    np.testing.assert_allclose(relative_edit_size(task.leaves, edited), 0.3, rtol=1e-5)
    change = np.asarray(edited["fc2/kernel"] - task.leaves["fc2/kernel"])
    values = np.linalg.svd(change)[1]
    assert (values > 1e-5 * values[0]).sum() == (rank or 8)
    other = RandomEdit(0.3, rank).edit(task, jax.random.key(1)).params["fc2"]["kernel"]
    assert np.any(other != result.params["fc2"]["kernel"])
    assert result.cost.reward_evaluations == 0 and isinstance(RandomEdit(0.3), Editor)
