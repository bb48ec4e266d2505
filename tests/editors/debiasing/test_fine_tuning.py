"""Penalties against loops and finite differences; what fine-tuning touches, costs and achieves."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from modeledit_jax.editors.debiasing.fine_tuning import (
    FineTune,
    logit_pairing,
    squared_mmd,
    tune,
)
from modeledit_jax.editors.editor import Editor
from modeledit_jax.tasks.debiasing_metrics import select_criterion
from tests import tiny
from tests.editors import biased

KEY = jax.random.key(0)
BLOCKS = np.array([[0, 1, 2], [5, 3, 4]], np.int32)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6))
def test_logit_pairing_is_the_mean_over_pairs(scores):
    z = np.array(scores)
    pairs = [abs(z[a] - z[b]) for row in BLOCKS for a in row for b in row if a != b]
    found = logit_pairing(jnp.asarray(scores, jnp.float32), jnp.asarray(BLOCKS))
    np.testing.assert_allclose(found, np.mean(pairs), rtol=1e-5, atol=1e-6)


def test_squared_mmd_equals_loops_and_is_zero_for_equal_samples():
    rng = np.random.default_rng(0)
    p, q = rng.uniform(size=5), rng.uniform(size=7)

    def mean_kernel(a, b):
        return np.mean([np.exp(-((x - y) ** 2) / 0.3**2) for x in a for y in b])

    expected = mean_kernel(p, p) - 2 * mean_kernel(p, q) + mean_kernel(q, q)
    own = [jnp.asarray(values, jnp.float32) for values in (p, q)]
    np.testing.assert_allclose(squared_mmd(*own, 0.3), expected, rtol=1e-5)
    np.testing.assert_allclose(squared_mmd(own[0], own[0][::-1], 0.3), 0.0, atol=1e-6)
    assert squared_mmd(own[0], own[0] + 0.5, 0.3) > squared_mmd(own[0], own[0] + 0.1, 0.3) > 0


@pytest.mark.parametrize(
    "penalty",
    [
        lambda z: logit_pairing(z, jnp.asarray(BLOCKS)),
        lambda z: squared_mmd(jax.nn.sigmoid(z[:2]), jax.nn.sigmoid(z[2:]), 0.2),
    ],
)
def test_gradients_of_penalties_equal_finite_differences(penalty):
    z = np.random.default_rng(1).normal(size=6)
    with jax.enable_x64(True):
        run = jax.jit(jax.value_and_grad(penalty))
        gradient = run(jnp.asarray(z))[1]
        expected = approx_fprime(z, lambda value: float(run(jnp.asarray(value))[0]), 1e-7)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)
    assert np.abs(expected).max() > 0.01


def test_equal_scores_have_a_gradient_of_zero_not_nan():
    gradient = jax.grad(lambda z: logit_pairing(z, jnp.asarray(BLOCKS)))(jnp.ones(6))
    np.testing.assert_array_equal(gradient, 0.0)


def _objective(params, penalty, weight):
    """Of the reward role, all at once, in NumPy."""
    targets = biased.task().roles["reward"].targets
    z, blocks = biased.scores(params, "reward")
    label, named = targets.label[: len(z)], targets.groups.any(axis=1)
    value = np.mean(np.logaddexp(0, z) - label * z)
    if penalty == "logit-pairing":
        apart = np.abs(blocks[:, :, None] - blocks[:, None, :])
        return value + weight * apart.sum() / (len(blocks) * 4 * 3)
    s = 1 / (1 + np.exp(-np.concatenate([z, blocks.ravel()])))
    p, q = (s[(targets.label == 0) & own] for own in (named, ~named))

    def mean_kernel(a, b):
        return np.exp(-(((a[:, None] - b) / 0.1) ** 2)).mean()

    return value + weight * (mean_kernel(p, p) - 2 * mean_kernel(p, q) + mean_kernel(q, q))


@pytest.mark.parametrize("penalty", ["logit-pairing", "mindiff"])
def test_full_batches_minimize_the_objective(penalty):
    editor = FineTune(penalty, 2.0, 60, 1e-2, batch_size=None)
    result = editor.edit(biased.task(), KEY)
    losses = np.asarray(result.trace["loss"])
    before = _objective(biased.subject_params(), penalty, 2.0)
    np.testing.assert_allclose(losses[0], before, rtol=1e-4)
    after = _objective(result.params, penalty, 2.0)
    assert after < losses[:5].min() and after < 0.95 * before
    # Without a draw the key plays no part.
    again = editor.edit(biased.task(), jax.random.key(1))
    np.testing.assert_array_equal(again.trace["loss"], losses)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "editor"),
    [
        ("fc2/kernel", FineTune(steps=20, batch_size=64)),
        ("fc2/*", FineTune("mindiff", steps=20, batch_size=64, reweighed=True)),
    ],
)
def test_only_the_site_changes_and_steps_are_counted(site, editor):
    task = biased.task(site)
    result = editor.edit(task, KEY)
    assert isinstance(editor, Editor)
    assert biased.changed(result.params) == set(task.site)
    assert result.cost.gradient_steps == 20 == len(result.trace["loss"])
    assert result.cost.reward_evaluations == 0
    again, other = editor.edit(task, KEY), editor.edit(task, jax.random.key(1))
    chex.assert_trees_all_equal(result.params, again.params)
    assert np.any(other.params["fc2"]["kernel"] != again.params["fc2"]["kernel"])


def test_logit_pairing_mitigates_bias_and_the_loss_alone_does_not():
    before = biased.dispersion(biased.subject_params())
    with_penalty, without = (
        FineTune("logit-pairing", weight, 600, 0.02, None).edit(biased.task(), KEY).params
        for weight in (0.3, 0.0)
    )
    assert biased.dispersion(with_penalty) < 0.5 * before
    assert biased.accuracy(with_penalty) > 0.68
    assert biased.dispersion(without) > 0.7 * before


def test_tune_chooses_on_select_and_counts_every_trial():
    task, seen = biased.task(), []

    def criterion(scores, sets):
        assert sets is task.roles["select"]
        blocks = np.asarray(scores)[sets.targets.blocks]
        seen.append(-np.ptp(blocks, axis=1).mean())
        return seen[-1] if len(seen) != 3 else float("nan")

    start = FineTune(steps=20, batch_size=64)  # compiled by the test above
    editor, result = tune(start, task, KEY, criterion, (0.01, 3.0, 30.0))
    assert editor == replace(start, weight=3.0)
    assert seen[0] < seen[1] and result.trace["criterion"][3.0] == seen[1]
    assert result.cost.gradient_steps == 60
    expected = editor.edit(task, KEY).params
    chex.assert_trees_all_equal(result.params, expected)
    with pytest.raises(ValueError, match="NaN for all of 1 weights"):
        tune(start, task, KEY, lambda *_: float("nan"), (1.0,))


@pytest.mark.slow
def test_an_editor_without_a_weight_tunes_itself_on_select():
    task = biased.task()
    editor = FineTune(steps=20, batch_size=64, weight=None, weights=(0.01, 3.0))
    result = editor.edit(task, KEY)
    chosen, expected = tune(editor, task, KEY, select_criterion(task), (0.01, 3.0))
    jax.tree.map(np.testing.assert_array_equal, result.params, expected.params)
    assert result.trace == expected.trace and chosen.weight in (0.01, 3.0)
    assert result.trace["criterion"].keys() == {0.01, 3.0}
    assert result.cost.gradient_steps == 40 and result.cost.reward_evaluations == 0


def test_bad_input_names_the_cure():
    with pytest.raises(ValueError, match=r"unknown penalty 'l2'; choose one of logit-pairing"):
        FineTune("l2").edit(biased.task(), KEY)
    with pytest.raises(ValueError, match="has no comments with identity terms"):
        FineTune().edit(tiny.task(), KEY)
    task = biased.task()
    sets = task.roles["reward"]
    for penalty, message, targets in (
        ("logit-pairing", "of two or more comments", {"blocks": sets.targets.blocks[:, :1]}),
        ("mindiff", "give it more comments", {"groups": np.ones_like(sets.targets.groups)}),
    ):
        roles = {"reward": replace(sets, targets=replace(sets.targets, **targets))}
        with pytest.raises(ValueError, match=message):
            FineTune(penalty).edit(replace(task, roles=roles), KEY)
