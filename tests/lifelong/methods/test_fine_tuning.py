"""Fine-tuning of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import log_softmax

from modeledit_jax.lifelong.methods.fine_tuning import FineTune, at_last_token, row_mean
from modeledit_jax.lifelong.model import commit
from modeledit_jax.lifelong.objective import answer_loss


def edited(editor, model, batch):
    changes, _ = editor.edit(model, model.kernels(), None, batch, jax.random.key(0))
    return commit(model.kernels(), changes)


def own_loss(model, kernels, batch, loss):
    logits, labels = model.logits(kernels, batch.edit), batch.edit.labels
    if loss == "last":
        return -row_mean(at_last_token(logits, labels), labels)
    return answer_loss(logits, labels)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["last", "teacher"])
def test_tuning_is_adam_on_the_kernels(model, batch, loss):
    """Of answers of one token and of two, for "last" counts rows alike and "teacher" tokens."""
    labels = np.array(batch.edit.labels)
    two = int(np.argmax((labels != -100).sum(1) == 2))
    labels[two, np.flatnonzero(labels[two] != -100)[1]] = -100
    assert set((labels != -100).sum(1).tolist()) == {1, 2}
    batch = batch.replace(edit=batch.edit.replace(labels=jnp.asarray(labels)))
    optimizer = optax.adam(1e-2)
    kernels = model.kernels()
    moments = optimizer.init(kernels)
    for _ in range(3):
        gradients = jax.grad(lambda w: own_loss(model, w, batch, loss))(kernels)
        updates, moments = optimizer.update(gradients, moments)
        kernels = optax.apply_updates(kernels, updates)
    found = edited(FineTune(loss, learning_rate=1e-2, steps=3), model, batch)
    for name in model.modules:
        np.testing.assert_allclose(found[name], kernels[name], atol=2e-5)


@pytest.mark.slow
def test_a_batch_that_is_known_is_left_alone(model, batch):
    found = edited(FineTune(floor=1e9), model, batch)
    for name, kernel in model.kernels().items():
        np.testing.assert_array_equal(found[name], kernel)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["last", "teacher"])
def test_tuning_lowers_its_own_loss(model, batch, loss):
    kernels = edited(FineTune(loss, learning_rate=2e-2, steps=20), model, batch)

    after, before = (own_loss(model, w, batch, loss) for w in (kernels, model.kernels()))
    assert after < 0.5 * before


def test_bound_holds_for_every_weight(model, batch):
    kernels = edited(FineTune(learning_rate=1e-2, steps=5, bound=5e-4), model, batch)
    moved = [np.abs(kernels[name] - own).max() for name, own in model.kernels().items()]
    assert max(moved) <= 5e-4 * 1.001 and min(moved) > 4e-4


def test_the_loss_at_the_last_token_reads_every_answer_token_at_the_prompts_end():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 4, 6)).astype(np.float32)
    labels = np.full((3, 4), -100)
    labels[0, 1:3], labels[1, 2] = (4, 2), 5  # the third row is empty
    log_p = log_softmax(logits, -1)
    expected = -np.mean([(log_p[0, 1, 4] + log_p[0, 1, 2]) / 2, log_p[1, 2, 5]])
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    found = -row_mean(at_last_token(logits, labels), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["last", "teacher"])
def test_facts_read_one_at_a_time_make_the_same_change(model, batch, loss):
    editor = FineTune(loss, learning_rate=1e-2, steps=3)
    whole = edited(editor, model, batch)
    parts = edited(editor, model.replace(rows_at_once=1), batch)
    for name in model.modules:
        np.testing.assert_allclose(parts[name], whole[name], atol=2e-5)
