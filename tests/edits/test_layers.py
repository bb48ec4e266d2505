"""Layers are found in the order of use, whatever they are called, and start as Flax starts them."""

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.edits.layers import fresh_leaves, layers_in_order, weight_paths
from tests import tiny


def test_layers_of_a_network_are_in_the_order_of_use():
    subject = tiny.subject()
    found = layers_in_order(subject.apply, subject.params, jnp.zeros((2, tiny.FEATURES)))
    assert found == tuple((f"{n}/bias", f"{n}/kernel") for n in ("fc1", "fc2", "head"))


def test_a_layer_that_is_used_twice_counts_where_it_is_used_last():
    params = {"a": {"kernel": jnp.ones((4, 4))}, "b": {"kernel": jnp.ones((4, 4))}, "n": 3}

    def apply(params, x):
        return ((x @ params["a"]["kernel"]) @ params["b"]["kernel"]) @ params["a"]["kernel"]

    assert layers_in_order(apply, params, jnp.zeros((1, 4))) == (("b/kernel",), ("a/kernel",))
    assert weight_paths(params) == ("a/kernel", "b/kernel")


def test_statistics_are_no_weights():
    statistics = {"norm": {"mean": jnp.ones(2)}}
    params = {"params": {"a": jnp.ones(2)}, "buffers": statistics, "batch_stats": statistics}
    assert weight_paths(params) == ("params/a",)


def test_fresh_leaves_are_as_flax_starts_them():
    leaves = {"fc/kernel": jnp.ones((400, 30)), "fc/bias": jnp.ones(30), "norm/scale": jnp.zeros(9)}
    found = fresh_leaves(leaves, jax.random.key(0))
    np.testing.assert_allclose(np.std(found["fc/kernel"]), 1 / 20, rtol=0.03)
    assert abs(np.mean(found["fc/kernel"])) < 0.002
    np.testing.assert_array_equal(found["fc/bias"], 0.0)
    np.testing.assert_array_equal(found["norm/scale"], 1.0)
    vectors = {"bn1/weight": jnp.zeros(9), "bn1/bias": jnp.ones(9)}  # as PyTorch calls them
    np.testing.assert_array_equal(fresh_leaves(vectors, jax.random.key(0))["bn1/weight"], 1.0)
    np.testing.assert_array_equal(fresh_leaves(vectors, jax.random.key(0))["bn1/bias"], 0.0)
    again, other = (fresh_leaves(leaves, jax.random.key(seed)) for seed in (0, 1))
    np.testing.assert_array_equal(again["fc/kernel"], found["fc/kernel"])
    assert np.any(other["fc/kernel"] != found["fc/kernel"])
