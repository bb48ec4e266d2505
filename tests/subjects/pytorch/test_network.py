"""Steps one after another: names, numbers that depend on the examples, dtypes."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.subjects.pytorch.layouts import Leaf
from modeledit_jax.subjects.pytorch.network import OPERATORS, Step, TorchNetwork, Value

X, W = Value("x"), Value("w")
STEPS = (
    Step("aten.sym_size.int", (X, 0), (), "n", None),
    Step("operator.mul", (Value("n"), 2), (), "twice", None),
    Step("aten.view.default", (X, (Value("twice"), -1)), (), "halves", "float32"),
    Step("aten.sum.dim_IntList", (Value("halves"), (1,), True), (), "sums", "float32"),
    Step("aten.view.default", (Value("sums"), (Value("n"), 2)), (), "pairs", "float32"),
    Step("aten.linear.default", (Value("pairs"), W), (), "out", "float32"),
    Step("aten.clamp.default", (Value("out"),), (("max", 5.0),), "low", "float32"),
)
LEAF = Leaf("fc.weight", "params", (3, 2), "float32", "dense", ("fc.weight",), ("w",))
PARAMS = {"params": {"fc": {"weight": jnp.arange(6.0).reshape(2, 3)}}}


def network(steps=STEPS, output="low", **options):
    given = {"shape": (4,), "dtype": "float32", "channels_last": False}
    return TorchNetwork((LEAF,), steps, "x", output, **{**given, **options})


@pytest.mark.parametrize("count", [1, 2, 5])
def test_steps_are_run_in_order_for_any_number_of_examples(count):
    x = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    pairs = x.reshape(count, 2, 2).sum(-1)
    expected = np.minimum(pairs @ np.arange(6.0).reshape(2, 3), 5)
    np.testing.assert_allclose(jax.jit(network())(PARAMS, x), expected, rtol=1e-5)


def test_a_result_has_the_dtype_that_torch_gives_it():
    steps = (Step("aten._to_copy.default", (X,), (), "out", "int32"),)
    assert network(steps, "out")(PARAMS, jnp.full((2, 4), 1.7)).dtype == jnp.int32


def test_the_documentation_names_every_operator():
    page = Path(__file__).parents[3] / "docs/how_to/torch_network.md"
    named = set(re.findall(r"`(\w+)`", page.read_text().split("## Operators")[1]))
    assert named == {name.split(".")[1] for name in OPERATORS if name.startswith("aten.")}


def test_networks_are_equal_by_value():
    assert network() == network() and hash(network()) == hash(network())
    assert network() != network(STEPS[:-1], "out") and network() != network(shape=(6,))


def test_channels_are_moved_and_examples_cast():
    steps = (Step("aten.clone.default", (X,), (), "out", "float32"),)
    last = network(steps, "out", shape=(3, 4, 5), channels_last=True)
    x = np.random.default_rng(0).integers(0, 9, (2, 4, 5, 3))
    x = jnp.asarray(x)
    np.testing.assert_array_equal(last(PARAMS, x), np.moveaxis(x, -1, 1))
    with pytest.raises(ValueError, match=r"shape \(4, 5, 3\), got \(3, 4, 5\): torch has the chan"):
        last(PARAMS, jnp.moveaxis(x, -1, 1))
    with pytest.raises(ValueError, match="reads int32, got float32"):
        network(dtype="int32")(PARAMS, jnp.ones((2, 4)))
