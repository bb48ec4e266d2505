"""Sums over examples against NumPy, however the examples fall into chunks."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.unlearning import gradients
from modeledit_jax.editors.unlearning.gradients import (
    mean_gradient,
    mean_squared_gradient,
    sum_over_examples,
)
from modeledit_jax.edits.split_apply import cached_features
from tests import tiny
from tests.editors.unlearning import by_hand

PATHS = ("fc2/bias", "fc2/kernel")


@pytest.mark.parametrize("chunk", [3, 5, 100])
def test_chunks_add_up_and_what_fills_them_counts_nothing(chunk):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(10, 2)), rng.random(10)

    def weighted(x, weight):
        return {"sum": weight @ x, "count": weight.sum()}

    found = sum_over_examples(weighted, jnp.asarray(x), jnp.asarray(weight), chunk)
    np.testing.assert_allclose(found["sum"], weight @ x, rtol=1e-5)
    np.testing.assert_allclose(found["count"], weight.sum(), rtol=1e-6)


def test_what_fills_a_chunk_is_an_example():
    """At an example of zeros a function may be no number, and so is 0 times that."""
    x = jnp.arange(1.0, 8.0)
    found = sum_over_examples(lambda x, weight: (weight / x).sum(), x, jnp.ones(7), 4)
    np.testing.assert_allclose(found, (1 / np.arange(1.0, 8.0)).sum(), rtol=1e-6)


def _given():
    """Arguments of both functions, and the gradient of every example by hand."""
    subject, train = tiny.subject(), tiny.splits().train
    x, label = jnp.asarray(train.x), jnp.asarray(train.y)
    weight = np.random.default_rng(0).random(60).astype(np.float32)
    features = cached_features(subject.apply, subject.params, x, PATHS)
    leaves = by_hand.leaves_of(subject.params)
    each = []
    for row in range(60):
        logits, inputs = by_hand.forward(leaves, train.x[row : row + 1])
        slope = by_hand.cross_entropy_slope(logits, train.y[row : row + 1], np.ones(1))
        each.append(by_hand.backward(leaves, inputs, slope))
    call = ((subject.apply, PATHS), subject.params, x[:1], features, label, jnp.asarray(weight))
    return call, weight, {path: np.stack([own[path] for own in each]) for path in PATHS}


@pytest.mark.slow
def test_means_of_gradients_and_of_their_squares(monkeypatch):
    monkeypatch.setattr(gradients, "CHUNK", 7)
    call, weight, each = _given()
    found = mean_gradient(*call)
    squares = partial(mean_squared_gradient, *call)(jnp.float32(3.0))
    for path in PATHS:
        mean = np.tensordot(weight, each[path], 1) / weight.sum()
        np.testing.assert_allclose(found[path], mean, rtol=1e-3, atol=1e-6)
        expected = np.tensordot(weight, each[path] ** 2, 1) / 3.0
        np.testing.assert_allclose(squares[path], expected, rtol=1e-3, atol=1e-6)
