"""Rows of a batch: inputs of layers and gradients at their outputs.

Rows are a fixed capacity, and of that kind are all arrays whose size is chosen before it is known
what they have to hold: rows of an editor, with and without minibatches, for answers and for all
tokens, in training and in editing (`test_hypernetwork_editor`, `test_meta_training`,
`test_stream`); those of a `StreamWorld` that gets other facts; the modules that an editor was
trained for; positions of a context (`test_encoding`); tokens of a vocabulary (`test_tokens`). None
of them may leave out what does not fit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import TokenBatch, with_places
from modeledit_jax.lifelong.objective import answer_loss
from modeledit_jax.lifelong.token_gradients import capture, check_rows, rows_needed


@jax.jit
def kernel_gradients(model, batch):
    def loss(kernels):
        return answer_loss(model.logits(kernels, batch), batch.labels)

    return jax.value_and_grad(loss)(model.kernels())


def test_all_rows_together_are_the_gradient_of_the_kernel(model, batch):
    loss, gradients = kernel_gradients(model, batch.edit)
    rows = int(batch.edit.attention.sum())
    value, found = capture(model, model.kernels(), batch.edit, rows, tokens="all")
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    assert found.mask.all()
    for name in model.modules:
        np.testing.assert_allclose(
            found.keys[name].T @ found.values[name], gradients[name], rtol=1e-4, atol=1e-6
        )


def test_last_layer_rows_of_answers_are_all_there_is(model, batch):
    # Nothing after the last layer mixes positions: only those that are scored have a gradient.
    name = "layers/1/mlp/down"
    _, gradients = kernel_gradients(model, batch.edit)
    needed = int(batch.edit.scored.sum())
    _, found = capture(model, model.kernels(), batch.edit, needed)
    np.testing.assert_allclose(
        found.keys[name].T @ found.values[name], gradients[name], rtol=1e-4, atol=1e-6
    )


@pytest.mark.slow
def test_room_to_spare_is_filled_with_zeros_and_masked(model, batch):
    needed = int(batch.edit.scored.sum())
    _, tight = capture(model, model.kernels(), batch.edit, needed)
    _, roomy = capture(model, model.kernels(), batch.edit, needed + 5)
    assert tight.mask.all() and roomy.mask.sum() == needed
    for name in model.modules:
        np.testing.assert_array_equal(roomy.keys[name][:needed], tight.keys[name])
        np.testing.assert_array_equal(roomy.values[name][needed:], 0)
        np.testing.assert_array_equal(roomy.keys[name][needed:], 0)


@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_rows_needed_is_the_largest_batch(stream, tokens):
    part = stream.edit.labels != -100 if tokens == "answer" else stream.edit.attention
    assert rows_needed(stream.edit, tokens) == max(int(batch.sum()) for batch in part)


@pytest.mark.slow
def test_rows_follow_the_order_of_positions(model):
    labels = jnp.full((2, 4), -100).at[0, 2].set(1).at[1, 1].set(2).at[1, 3].set(3)
    batch = TokenBatch(jnp.arange(8).reshape(2, 4), jnp.ones((2, 4), bool), labels)
    _, some = capture(model, model.kernels(), batch, 3)
    _, everything = capture(model, model.kernels(), batch, 8, tokens="all")
    name = model.modules[0]
    np.testing.assert_array_equal(some.keys[name], everything.keys[name][jnp.array([2, 5, 7])])


@pytest.mark.slow
@pytest.mark.parametrize("tokens", ["answer", "all"])
@pytest.mark.parametrize("places", [False, True])
def test_facts_read_some_at_a_time_give_the_same_rows(model, stream, tokens, places):
    """Six facts in parts of one, two and three; also with more room than there are positions."""
    facts = jax.tree.map(lambda leaf: leaf[:2].reshape(6, -1), stream.edit)
    facts = with_places(facts) if places else facts
    needed = rows_needed(facts, tokens)
    for rows in (needed, needed + 5, 1000):
        loss, expected = capture(model, model.kernels(), facts, rows, tokens)
        for few in (1, 2, 3):
            part = model.replace(rows_at_once=few)
            value, found = capture(part, model.kernels(), facts, rows, tokens)
            np.testing.assert_allclose(value, loss, rtol=1e-5)
            np.testing.assert_array_equal(found.mask, expected.mask)
            for side in ("keys", "values"):
                mine, own = getattr(found, side), getattr(expected, side)
                for name in model.modules:
                    np.testing.assert_allclose(mine[name], own[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("tokens", ["answer", "all"])
def test_too_few_rows_are_refused_with_the_number_that_is_needed(model, batch, stream, tokens):
    needed = rows_needed(batch.edit, tokens)
    check_rows(batch.edit, needed, tokens)
    what = "answer tokens" if tokens == "answer" else "tokens"
    message = rf"rows={needed - 1}: a batch has {needed} {what}, .*give at least rows={needed}"
    with pytest.raises(ValueError, match=message):
        check_rows(batch.edit, needed - 1, tokens)
    with pytest.raises(ValueError, match=message):
        capture(model, model.kernels(), batch.edit, needed - 1, tokens)
    with pytest.raises(ValueError, match=f"give at least rows={rows_needed(stream.edit, tokens)},"):
        check_rows(stream.edit, 1, tokens)


def test_rows_of_a_minibatch_are_those_of_its_fullest_part(stream):
    each = np.asarray(stream.edit.scored).sum(-1)
    assert rows_needed(stream.edit, minibatch=1) == each.max()
    assert rows_needed(stream.edit, minibatch=3) == rows_needed(stream.edit)
    check_rows(stream.edit, int(each.max()), minibatch=1)
    with pytest.raises(ValueError, match="rows=1: a minibatch of 1 facts has 2 answer tokens"):
        check_rows(stream.edit, 1, minibatch=1)
