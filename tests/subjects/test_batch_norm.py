"""Batch normalization against PyTorch's, in training and in evaluation mode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.subjects.batch_norm import BatchNorm, evaluation_mode, training_mode
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.training import TrainingConfig, train_classifier
from modeledit_jax.types import Examples

torch = pytest.importorskip("torch")


class Network(nn.Module):
    """A normalization, a dense layer, a normalization inside of a submodule."""

    batch_normalized = True

    @nn.compact
    def __call__(self, x, presence=None):
        x = nn.Dense(3, name="fc1")(BatchNorm(name="first")(x, presence))
        return Inner(name="inner")(x, presence)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x, presence):
        return BatchNorm(name="norm")(nn.tanh(x), presence)


RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(1, 2, (12, 4)), jnp.float32)
X64 = np.asarray(X, np.float64)
ROWS = jnp.arange(12).reshape(3, 4)


def _params():
    params = Network().init(jax.random.key(0), X)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype("f"), params)


def _torch(layer, features):
    norm = torch.nn.BatchNorm1d(features, eps=1e-5, momentum=None).double()  # the plain average
    norm.weight.data = torch.from_numpy(np.asarray(layer["scale"], np.float64))
    norm.bias.data = torch.from_numpy(np.asarray(layer["bias"], np.float64))
    return norm


def test_training_mode_equals_torch():
    params = {"scale": RNG.normal(size=4), "bias": RNG.normal(size=4)}
    x = jnp.asarray(RNG.normal(3, 2, (5, 2, 3, 4)), jnp.float32)
    norm = torch.nn.BatchNorm2d(4, eps=1e-5).double()
    norm.weight.data, norm.bias.data = map(torch.from_numpy, params.values())
    expected = norm(torch.from_numpy(np.asarray(x, np.float64)).permute(0, 3, 1, 2))
    variables = {"params": params}
    found, _ = BatchNorm().apply(variables, x, jnp.ones(5), mutable=["batch_stats"])
    expected = expected.permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_examples_of_weight_zero_do_not_count():
    layer = {"params": {"scale": np.ones(4, "f"), "bias": np.zeros(4, "f")}}
    presence = jnp.asarray([1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1], jnp.float32)
    found, state = BatchNorm().apply(layer, X, presence, mutable=["batch_stats"])
    kept = X64[np.asarray(presence) > 0]
    np.testing.assert_allclose(state["batch_stats"]["mean"], kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state["batch_stats"]["var"], kept.var(0), rtol=1e-5)
    assert np.isfinite(found).all()
    nobody, _ = BatchNorm().apply(layer, X, jnp.zeros(12), mutable=["batch_stats"])
    assert np.isfinite(nobody).all()


def test_folded_statistics_are_those_of_the_population():
    """The first normalization sees the examples themselves: all rows are one batch to it."""
    params, forward = _params(), training_mode(Network())
    folded = evaluation_mode(forward, params, X, jnp.ones(12), ROWS)
    found = BatchNorm().apply({"params": folded["first"]}, X)
    norm = _torch(params["first"], 4).eval()
    norm.running_mean = torch.from_numpy(X64.mean(0))
    norm.running_var = torch.from_numpy(X64.var(0))
    expected = norm(torch.from_numpy(X64)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(folded["fc1"]["kernel"], params["fc1"]["kernel"])


def test_one_batch_gives_in_evaluation_mode_what_training_gave():
    """With all examples in one batch both modes are the same function, in every layer."""
    params, forward = _params(), training_mode(Network())
    trained, _ = forward(params, X, jnp.ones(12))
    folded = evaluation_mode(forward, params, X, jnp.ones(12), jnp.arange(12)[None])
    assert jax.tree.structure(folded) == jax.tree.structure(params)
    found = Network().apply({"params": folded}, X)
    np.testing.assert_allclose(found, trained, rtol=1e-4, atol=1e-5)
    alone = [Network().apply({"params": folded}, one[None])[0] for one in X]
    np.testing.assert_allclose(alone, found, rtol=1e-5, atol=1e-6)


def test_left_out_examples_are_not_in_the_folded_statistics():
    params, forward = _params(), training_mode(Network())
    presence = jnp.asarray([1.0] * 7 + [0.0] * 5)
    folded = evaluation_mode(forward, params, X, presence, ROWS)
    other = jnp.where(jnp.arange(12)[:, None] < 7, X, 100.0)
    again = evaluation_mode(forward, params, other, presence, ROWS)
    jax.tree.map(np.testing.assert_array_equal, folded, again)


def test_other_modules_are_left_alone():
    module = MLP(3, (4,))
    params = module.init(jax.random.key(0), X)["params"]
    forward = training_mode(module)
    logits, statistics = forward(params, X, jnp.ones(12))
    assert statistics == {}
    np.testing.assert_array_equal(logits, module.apply({"params": params}, X))
    assert evaluation_mode(forward, params, X, jnp.ones(12), ROWS) is params


def test_training_returns_evaluation_mode():
    """Trained for no time at all: the folded statistics of the initial network."""
    examples = Examples(jnp.asarray(X), jnp.asarray(np.arange(12) % 3))
    config = TrainingConfig(epochs=1, batch_size=12, learning_rate=0.0, weight_decay=0.0)
    params = train_classifier(Network(), examples, config, jax.random.key(5))
    outputs = np.asarray(Network().apply({"params": params}, X))
    np.testing.assert_allclose(outputs.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(outputs.var(0), 1, rtol=1e-3)
