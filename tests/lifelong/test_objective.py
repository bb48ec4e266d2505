"""Losses against NumPy, and the loss of a trajectory against a loop over its batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from modeledit_jax.evaluation.knowledge import divergence
from modeledit_jax.lifelong.model import squared_norms
from modeledit_jax.lifelong.objective import (
    Objective,
    answer_loss,
    batch_loss,
    token_mean,
    trajectory_loss,
)
from tests.lifelong.test_model import random_changes


def locality_loss(logits, reference, labels, minibatch=None):
    return token_mean(divergence(logits, reference, labels), labels, minibatch)


def random_case(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((3, 5)) < 0.4, rng.integers(0, 7, (3, 5)), -100)
    logits, reference = rng.normal(size=(2, 3, 5, 7)).astype(np.float32)
    return jnp.asarray(logits), jnp.asarray(reference), jnp.asarray(labels)


@pytest.mark.slow
def test_answer_loss_is_the_mean_over_all_labeled_tokens():
    logits, _, labels = random_case()
    log_p = log_softmax(logits, -1)
    own = [log_p[i, j, labels[i, j]] for i, j in zip(*np.nonzero(labels >= 0), strict=True)]
    np.testing.assert_allclose(answer_loss(logits, labels), -np.mean(own), rtol=1e-5)


def test_locality_loss_is_the_divergence_from_the_reference():
    logits, reference, labels = random_case()
    log_q, log_p = log_softmax(logits, -1), log_softmax(reference, -1)
    each = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(
        locality_loss(logits, reference, labels), each[np.asarray(labels) >= 0].mean(), rtol=1e-5
    )
    assert float(locality_loss(logits, logits, labels)) == pytest.approx(0, abs=1e-7)


def test_parts_of_a_batch_have_means_of_their_own():
    logits, reference, labels = random_case()
    whole = [answer_loss(logits[i : i + 1], labels[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(answer_loss(logits, labels, 1), sum(whole), rtol=1e-5)
    kept = [locality_loss(*(x[i : i + 1] for x in (logits, reference, labels))) for i in range(3)]
    np.testing.assert_allclose(locality_loss(logits, reference, labels, 1), sum(kept), rtol=1e-5)


def test_no_label_no_loss():
    logits, reference, labels = random_case()
    nothing = jnp.full_like(labels, -100)
    assert answer_loss(logits, nothing) == 0 == locality_loss(logits, reference, nothing)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [1, 2, 9])
@pytest.mark.parametrize("step", [0, 2])
def test_memory_counts_past_batches_with_decay(model, stream, memory, step):
    objective = Objective(
        memory=memory, decay=0.7, past=2.0, locality=0.3, size=0.01, recompute=memory > 1
    )
    kernels, changes = model.kernels(), random_changes(model)
    expected = 0.01 * sum(squared_norms(changes).values())
    for age in range(min(memory, step + 1)):
        past = jax.tree.map(lambda leaf, at=step - age: leaf[at], stream)
        own = batch_loss(model, kernels, changes, kernels, past, objective)
        expected += (2.0 if age else 1.0) * 0.7**age * own
    value = trajectory_loss(model, kernels, changes, stream, jnp.int32(step), objective)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.slow
def test_what_is_kept_for_the_gradient_does_not_change_it(model, stream):
    changes = random_changes(model)

    def loss(size, recompute):
        own = Objective(memory=2, recompute=recompute)
        moved = {name: hook.replace(values=size * hook.values) for name, hook in changes.items()}
        return trajectory_loss(model, model.kernels(), moved, stream, jnp.int32(2), own)

    kept, again = (jax.grad(loss)(1.0, recompute) for recompute in (False, True))
    np.testing.assert_allclose(kept, again, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_read_in_parts_has_the_same_loss_and_gradient(model, stream, rows):
    """Of three facts the parts are single ones: the largest divisor that is allowed."""
    changes, few = random_changes(model), model.replace(rows_at_once=rows)
    objective = Objective(memory=2, reference="original")

    def loss(model, size):
        moved = {name: hook.replace(values=size * hook.values) for name, hook in changes.items()}
        return trajectory_loss(model, model.kernels(), moved, stream, jnp.int32(2), objective)

    whole, parts = (jax.value_and_grad(partial(loss, own))(1.0) for own in (model, few))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


@pytest.mark.slow
def test_a_trajectory_may_begin_within_the_stream(model, stream):
    """Batches before it do not count: as if the stream began there."""
    objective = Objective(memory=3)
    kernels, changes = model.kernels(), random_changes(model)
    rest = jax.tree.map(lambda leaf: leaf[1:], stream)
    expected = trajectory_loss(model, kernels, changes, rest, jnp.int32(1), objective)
    value = trajectory_loss(model, kernels, changes, stream, jnp.int32(2), objective, jnp.int32(1))
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.slow
def test_size_without_gradient_counts_and_pulls_at_nothing(model, stream):
    def gradient(size, size_gradient):
        objective = Objective(memory=1, size=size, size_gradient=size_gradient)

        def loss(scale):
            changes = random_changes(model, scale)
            return trajectory_loss(model, model.kernels(), changes, stream, jnp.int32(0), objective)

        return jax.value_and_grad(loss)(0.1)

    (plain, slope), (inert, inert_slope) = gradient(0.0, True), gradient(1.0, False)
    real, real_slope = gradient(1.0, True)
    assert inert == pytest.approx(float(real)) and inert > plain + 0.1
    assert inert_slope == pytest.approx(float(slope), rel=1e-4)  # the released code's defect
    assert real_slope > slope + 1


@pytest.mark.slow
def test_reference_of_locality(model, stream):
    moved = jax.tree.map(lambda w: 1.3 * w, model.kernels())
    changes = random_changes(model, 0.0)

    def loss(reference):
        objective = Objective(memory=1, locality=5.0, size=0.0, reference=reference)
        return trajectory_loss(model, moved, changes, stream, jnp.int32(0), objective)

    # Without a change the network is its own reference, but not the unedited network's.
    batch = jax.tree.map(lambda leaf: leaf[0], stream)
    learnt = answer_loss(model.logits(moved, batch.rephrase), batch.rephrase.labels)
    np.testing.assert_allclose(loss("previous"), learnt, rtol=1e-5)
    assert loss("original") > learnt + 0.01


def test_memory_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 batch"):
        Objective(memory=0)


def test_a_minibatch_must_divide_the_batch():
    logits, _, labels = random_case()
    with pytest.raises(ValueError, match="no parts of 2: the minibatch of the objective"):
        answer_loss(logits, labels, 2)
    with pytest.raises(ValueError, match="minibatch=0: give at least 1, or None"):
        Objective(minibatch=0)
