"""Nearest class means against scikit-learn."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from modeledit_jax.evaluation.prototypes import draw_shots, prototype_recall


def test_recall_is_that_of_the_nearest_centroid(rng):
    label, other = rng.permutation(np.arange(40) % 4), rng.integers(0, 4, 50)
    support, query = rng.normal(size=(40, 3)) + label[:, None], rng.normal(size=(50, 3)) + 1.5
    weights = (rng.random(50) < 0.4).astype(np.float32)
    rows = draw_shots(label, 2, 3, seed=0)
    expected = []
    for own in rows:
        chosen = own.reshape(-1)
        classifier = NearestCentroid().fit(support[chosen], label[chosen])
        expected.append((classifier.predict(query) == other)[weights > 0].mean())
    arrays = (support.astype(np.float32), rows, query.astype(np.float32), other, weights)
    found = prototype_recall(*map(jnp.asarray, arrays))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)
    assert 0.1 < found < 0.9


def test_shots_are_of_their_class_all_different_and_the_same_for_a_seed():
    label = np.repeat([0, 1, 2], [5, 9, 6])
    rows = draw_shots(label, 5, 20, seed=1)
    assert rows.shape == (20, 3, 5)
    np.testing.assert_array_equal(label[rows], np.broadcast_to([[0], [1], [2]], (20, 3, 5)))
    assert all(len(set(own)) == 5 for own in rows.reshape(-1, 5))
    np.testing.assert_array_equal(rows, draw_shots(label, 5, 20, seed=1))
    assert np.any(rows != draw_shots(label, 5, 20, seed=2))
    with pytest.raises(ValueError, match="class 0 has 5 examples, 6 are drawn of each"):
        draw_shots(label, 6, 1, seed=0)
