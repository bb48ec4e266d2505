"""Token batches: where labels stand, and to which lengths rows are padded."""

import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import BUCKETS, IGNORED, bucket, pad_batch


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
