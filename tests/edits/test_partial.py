"""The split network against the whole one, for networks of many makes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import nnx

from modeledit_jax.edits.partial import split_apply
from modeledit_jax.edits.site import get_leaves, match_paths, set_leaves
from modeledit_jax.subjects.classifiers import CNN
from modeledit_jax.subjects.subject import flax_apply

N = 7
X = jnp.asarray(tiny.splits().reward.x[:N])
IMAGES = jax.random.normal(jax.random.key(3), (N, 6, 5, 2))


def _weights(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(0.5 * rng.normal(size=shape), jnp.float32) for shape in shapes]


def _by_hand():
    w1, b1, w2, w3 = _weights((6, 5), (5,), (5, 4), (4, 3))
    params = [{"w": w1, "b": b1}, {"w": w2}, {"w": w3}]

    def apply(params, x):
        hidden = jnp.tanh(x @ params[0]["w"] + params[0]["b"])
        hidden = jnp.maximum(hidden @ params[1]["w"], 0.0)
        return hidden @ params[2]["w"] * np.float32(2.0)

    return apply, params, X, "1/w"


def _linen_mlp():
    subject = tiny.subject()
    return subject.apply, subject.params, X, "fc2/kernel"


def _linen_cnn():
    module = CNN(3, channels=(3, 4), hidden=(5, 4))
    params = module.init(jax.random.key(0), IMAGES)["params"]
    return flax_apply(module), params, IMAGES, "fc2/kernel"


def _convolutions():
    """XLA convolutions, edited at the second, and layer normalisation behind them."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(3, (3, 3), strides=2, name="conv1")(x))
            x = nn.gelu(nn.Conv(4, (3, 3), strides=2, name="conv2")(x))
            return nn.Dense(3, name="head")(nn.LayerNorm()(x.reshape((x.shape[0], -1))))

    params = Net().init(jax.random.key(0), IMAGES)["params"]
    return flax_apply(Net()), params, IMAGES, "conv2/kernel"


def _nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.fc1, self.fc2 = nnx.Linear(6, 5, rngs=rngs), nnx.Linear(5, 3, rngs=rngs)

        def __call__(self, x):
            return self.fc2(jax.nn.relu(self.fc1(x)))

    graph, params = nnx.split(Net(nnx.Rngs(0)))
    return lambda params, x: nnx.merge(graph, params)(x), params, X, "fc2/kernel/*"


def _nested_jit():
    """The same compiled layer twice inside another call; the site is inside both."""
    w1, w2, w3 = _weights((6, 6), (6, 6), (6, 3))
    params = {"a": w1, "b": w2, "c": w3}

    @jax.jit
    def layer(w, x):
        return jax.jit(jnp.tanh)(x @ w) + jnp.float32(1.0)

    @jax.jit
    def apply(params, x):
        return layer(params["b"], layer(params["a"], x)) @ params["c"]

    return apply, params, X, "b"


def _checkpoint():
    w1, w2, w3 = _weights((6, 5), (5, 4), (4, 3))

    def apply(params, x):
        block = jax.checkpoint(lambda w1, w2, x: jnp.sin(jnp.sin(x @ w1) @ w2))
        return block(params["w1"], params["w2"], x) @ params["w3"]

    return apply, {"w1": w1, "w2": w2, "w3": w3}, X, "w2"


def _scan():
    """Equal layers as one scan over stacked weights, the edited layer after it."""
    stack, w, head = _weights((3, 6, 6), (6, 4), (4, 3))

    def apply(params, x):
        def layer(h, w):
            return jnp.tanh(h @ w), None

        h, _ = jax.lax.scan(layer, x, params["stack"])
        return jnp.tanh(h @ params["w"]) @ params["head"]

    return apply, {"stack": stack, "w": w, "head": head}, X, "w"


def _scan_at_the_site():
    apply, params, x, _ = _scan()
    return apply, params, x, "stack"


def _control_flow():
    """A loop in the suffix and a branch whose condition depends on the example."""
    w1, w2 = _weights((6, 4), (4, 3))

    def apply(params, x):
        h = x @ params["w1"]
        h = jax.lax.cond(h.sum() > 0, jnp.sin, lambda h: 2.0 * h, h)
        logits = h @ params["w2"]
        return jax.lax.fori_loop(0, 3, lambda _, y: jnp.tanh(y) + logits, logits)

    return lambda p, x: jax.vmap(lambda row: apply(p, row))(x), {"w1": w1, "w2": w2}, X, "w2"


def _embedding():
    """Integer inputs and a custom derivative rule after the site."""
    table, w, head = _weights((9, 5), (5, 4), (4, 3))
    tokens = jnp.asarray(np.random.default_rng(0).integers(9, size=(N, 4)), jnp.int32)

    @jax.custom_vjp
    def scaled(x):
        return 3.0 * x

    scaled.defvjp(lambda x: (scaled(x), None), lambda _, g: (3.0 * g,))

    def apply(params, x):
        hidden = jax.nn.silu(params["table"][x].mean(1) @ params["w"])
        return scaled(hidden) @ params["head"]

    return apply, {"table": table, "w": w, "head": head}, tokens, "w"


def _several():
    subject = tiny.subject()
    return subject.apply, subject.params, X, ("fc2/bias", "head/kernel", "fc2/kernel")


def _first_layer():
    subject = tiny.subject()
    return subject.apply, subject.params, X, ("fc1/*",)


def _last_bias():
    subject = tiny.subject()
    return subject.apply, subject.params, X, "head/bias"


NETWORKS = [
    _by_hand,
    _linen_mlp,
    _linen_cnn,
    _convolutions,
    _nnx,
    _nested_jit,
    _checkpoint,
    _scan,
    _scan_at_the_site,
    _control_flow,
    _embedding,
    _several,
    _first_layer,
    _last_bias,
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda make: make.__name__.strip("_"))
def test_split_network_equals_the_whole_one(network):
    apply, params, x, patterns = network()
    paths = match_paths(params, patterns)
    split = split_apply(apply, params, x, paths)
    leaves = {path: 1.5 * leaf + 0.1 for path, leaf in get_leaves(params, paths).items()}
    features = jax.jit(split.prefix)(params, x)

    whole = jax.jit(lambda leaves: apply(set_leaves(params, leaves), x))
    outputs = jax.jit(split.suffix)(leaves, features)
    np.testing.assert_allclose(outputs, whole(leaves), rtol=1e-5, atol=1e-6)
    assert outputs.dtype == whole(leaves).dtype

    direction = jax.random.normal(jax.random.key(1), outputs.shape)

    @jax.jit
    def gradients(leaves):
        short = jax.grad(lambda leaves: jnp.vdot(split.suffix(leaves, features), direction))
        return short(leaves), jax.grad(lambda leaves: jnp.vdot(whole(leaves), direction))(leaves)

    gradient, expected = gradients(leaves)
    for path in paths:
        np.testing.assert_allclose(gradient[path], expected[path], rtol=1e-4, atol=1e-5)
        assert np.any(np.asarray(gradient[path]) != 0)


def test_equal_to_the_last_bit_where_the_arithmetic_is_the_same():
    """A row-wise network has no sum whose order could depend on the batch."""

    def apply(params, x):
        return jnp.maximum(x * params["a"] + 1.0, 0.0) * params["b"]

    params = {"a": jnp.arange(6.0), "b": jnp.linspace(-1.0, 1.0, 6)}
    split = split_apply(apply, params, X, ("b",))

    @jax.jit
    def both(params, x):
        return split.suffix({"b": params["b"]}, split.prefix(params, x)), apply(params, x)

    np.testing.assert_array_equal(*both(params, X))


def test_outputs_do_not_depend_on_the_batch_size():
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x[:1], (path,))
    leaves = get_leaves(params, (path,))
    outputs = split.suffix(leaves, split.prefix(params, x))
    one = split.suffix(leaves, split.prefix(params, x[4:5]))
    np.testing.assert_allclose(outputs[4:5], one, rtol=1e-5, atol=1e-6)
    assert outputs.shape == (N, tiny.CLASSES)


def test_split_made_from_one_network_serves_others_of_its_shape():
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x, (path,))
    other = tiny.subject(5).params
    outputs = split.suffix(get_leaves(other, (path,)), split.prefix(other, x))
    np.testing.assert_allclose(outputs, apply(other, x), rtol=1e-5, atol=1e-6)


def test_candidates_under_vmap_equal_one_by_one():
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x, (path,))
    features = split.prefix(params, x)
    candidates = {path: jax.random.normal(jax.random.key(0), (3, 5, 4))}
    together = jax.vmap(split.suffix, (0, None))(candidates, features)
    for index in range(3):
        alone = apply(set_leaves(params, {path: candidates[path][index]}), x)
        np.testing.assert_allclose(together[index], alone, rtol=1e-5, atol=1e-6)


def _count_products(function, *arguments):
    """Matrix products in the program of a function."""
    return str(jax.make_jaxpr(function)(*arguments)).count("dot_general[")


@pytest.mark.parametrize("depth", [1, 4])
def test_the_suffix_holds_no_layer_before_the_site(depth):
    subject = tiny.subject(0, (6,) * depth + (5,))
    path = f"fc{depth + 1}/kernel"
    split = split_apply(subject.apply, subject.params, X, (path,))
    features = split.prefix(subject.params, X)
    assert _count_products(split.suffix, get_leaves(subject.params, (path,)), features) == 2
    assert _count_products(split.prefix, subject.params, X) == depth
    assert _count_products(subject.apply, subject.params, X) == depth + 2
    # Cached per example: the input of the edited layer and nothing more.
    assert [f.shape for f in features.per_example] == [(N, 1, 6)]


def test_nested_calls_are_cut_at_the_site():
    apply, params, x, path = _nested_jit()
    split = split_apply(apply, params, x, (path,))
    assert _count_products(split.prefix, params, x) == 1
    features = split.prefix(params, x)
    assert _count_products(split.suffix, get_leaves(params, (path,)), features) == 2
    assert [array.shape for array in features.shared] == [params["c"].shape]


def test_a_site_without_effect_is_refused():
    params = {"used": jnp.ones((6, 3)), "unused": jnp.ones((6, 3))}

    def apply(params, x):
        return x @ params["used"] + 0.0 * jax.lax.stop_gradient(x[:, :3])

    with pytest.raises(ValueError, match="do not depend on the edited leaves"):
        split_apply(apply, params, X, ("unused",))
