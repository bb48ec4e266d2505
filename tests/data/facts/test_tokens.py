"""Token batches: where labels stand, and to which lengths rows are padded."""

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import (
    BUCKETS,
    IGNORED,
    bucket,
    check_tokens,
    pad_batch,
    padded_length,
)


def test_labels_are_predicted_one_position_early():
    batch = pad_batch([[5, 6, 7], [8]], [[1, 2], [3]], length=5)
    np.testing.assert_array_equal(batch.tokens, [[5, 6, 7, 1, 0], [8, 0, 0, 0, 0]])
    i = IGNORED
    np.testing.assert_array_equal(batch.labels, [[i, i, 1, 2, i], [3, i, i, i, i]])
    np.testing.assert_array_equal(batch.attention, [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch.scored, np.asarray(batch.labels) != i)


def test_rows_are_padded_to_the_bucket_of_the_longest():
    assert pad_batch([[1] * 9], [[2]]).tokens.shape == (1, 12)
    assert bucket(BUCKETS[0]) == BUCKETS[0] and bucket(BUCKETS[0] + 1) == BUCKETS[1]
    assert bucket(3, buckets=(7, 4)) == 4


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: bucket(BUCKETS[-1] + 1), "shorten the prompt"),
        (lambda: pad_batch([[]], [[1]]), "row 0 has an empty prompt"),
        (lambda: pad_batch([[1]], [[]]), "row 0 has an empty answer"),
        (lambda: pad_batch([[1, 2, 3]], [[1]], length=2), "3 positions, more than 2"),
    ],
)
def test_what_does_not_fit_is_refused(call, part):
    with pytest.raises(ValueError, match=part):
        call()


def test_a_context_limits_the_length_and_goes_beyond_the_buckets():
    assert padded_length(9) == 12 and padded_length(9, 10) == 10
    assert padded_length(1025, 4096) == 2048 and padded_length(3000, 3001) == 3001
    with pytest.raises(ValueError, match="shorten the prompt"):
        padded_length(1025)


@pytest.mark.parametrize("leading", [(), (1,), (1, 1)])
@pytest.mark.parametrize(
    ("prompt", "answer", "token"), [([7, 1], [2], 7), ([1], [2, 8], 8), ([1, -1], [2], -1)]
)
def test_tokens_that_a_network_does_not_embed_are_refused(leading, prompt, answer, token):
    batch = pad_batch([prompt], [answer])
    batch = jax.tree.map(lambda leaf: leaf.reshape(*leading, *leaf.shape), batch)
    named = f"facts holds the token {token}, and the network embeds 0 to 6"
    with pytest.raises(ValueError, match=named):
        check_tokens(batch, 7, "facts")
    jax.jit(lambda batch: check_tokens(batch, 7, "facts"))(batch)  # no value is known


def test_padding_is_no_token():
    batch = pad_batch([[5, 6]], [[6]], length=3)
    padded = batch.replace(tokens=np.where(batch.attention, batch.tokens, 99))
    check_tokens(padded, 7, "facts")
    with pytest.raises(ValueError, match="facts holds the token 6,"):
        check_tokens(padded, 6, "facts")
