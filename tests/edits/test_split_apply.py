"""The split network against the whole one, for networks of many makes."""

from functools import lru_cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from modeledit_jax.edits.parametrization import Factors
from modeledit_jax.edits.site import get_leaves, match_paths, set_leaves
from modeledit_jax.edits.split_apply import (
    cached_features,
    run_arranged,
    run_prefix,
    run_products,
    run_suffix,
    split_apply,
)
from modeledit_jax.subjects.image_classifiers import CNN
from modeledit_jax.subjects.subject import flax_apply
from tests import tiny

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


@lru_cache
def _linen_cnn():
    module = CNN(3, channels=(3, 4), hidden=(5, 4))
    params = jax.jit(module.init)(jax.random.key(0), IMAGES)["params"]
    return flax_apply(module), params, IMAGES, "fc2/kernel"


def _convolutions():
    """XLA convolutions, edited at the second, and layer normalization behind them."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(3, (3, 3), strides=2, name="conv1")(x))
            x = nn.gelu(nn.Conv(4, (3, 3), strides=2, name="conv2")(x))
            return nn.Dense(3, name="head")(nn.LayerNorm()(x.reshape((x.shape[0], -1))))

    params = jax.jit(Net().init)(jax.random.key(0), IMAGES)["params"]
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


def _two_layers():
    subject = tiny.subject()
    return subject.apply, subject.params, X, ("fc2/kernel", "head/kernel")


def _patches():
    apply, params, x, _ = _linen_cnn()
    return apply, params, x, "conv2/kernel"


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
    leaves = get_leaves(params, paths)
    leaves = {path: jnp.asarray(1.5 * np.asarray(leaf) + 0.1) for path, leaf in leaves.items()}
    features = run_prefix(split, params, x)
    shape = jax.eval_shape(apply, params, x).shape
    direction = np.random.default_rng(1).normal(size=shape).astype(np.float32)

    @jax.jit
    def both(leaves):
        def short(leaves):
            outputs = split.suffix(leaves, features)
            return jnp.vdot(outputs, direction), outputs

        def whole(leaves):
            outputs = apply(set_leaves(params, leaves), x)
            return jnp.vdot(outputs, direction), outputs

        return [jax.grad(function, has_aux=True)(leaves) for function in (short, whole)]

    (gradient, outputs), (expected, whole) = both(leaves)
    np.testing.assert_allclose(outputs, whole, rtol=1e-5, atol=1e-6)
    assert outputs.dtype == whole.dtype
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
    outputs = np.asarray(run_suffix(split, leaves, run_prefix(split, params, x)))
    one = run_suffix(split, leaves, run_prefix(split, params, jnp.asarray(np.asarray(x)[4:5])))
    np.testing.assert_allclose(outputs[4:5], one, rtol=1e-5, atol=1e-6)
    assert outputs.shape == (N, tiny.CLASSES)


def test_split_made_from_one_network_serves_others_of_its_shape():
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x, (path,))
    other = tiny.subject(5).params
    outputs = run_suffix(split, get_leaves(other, (path,)), run_prefix(split, other, x))
    np.testing.assert_allclose(outputs, jax.jit(apply)(other, x), rtol=1e-5, atol=1e-6)


def test_splits_are_equal_by_value():
    """What is compiled for one serves all of the same function, shapes, inputs and leaves."""
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x, (path,))
    other = split_apply(apply, tiny.subject(5).params, jnp.asarray(2 * np.asarray(x)[:3]), (path,))
    assert other is not split and other == split and hash(other) == hash(split)
    wide = tiny.subject(0, (7, 4))
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
    different = [
        split_apply(lambda params, x: apply(params, x), params, x, (path,)),
        split_apply(wide.apply, wide.params, x, (path,)),
        split_apply(apply, half, x, (path,)),
        split_apply(apply, params, x.astype(jnp.bfloat16), (path,)),
        split_apply(apply, params, x, (path, "head/kernel")),
    ]
    with jax.default_matmul_precision("float32"):
        different.append(split_apply(apply, params, x, (path,)))
    assert all(one != split for one in different) and len(set(different)) == len(different)


def test_equal_splits_share_what_is_compiled_and_keep_their_numbers_apart():
    apply, params, x, path = _linen_mlp()
    sizes = []
    for network in (params, tiny.subject(5).params, params):
        split = split_apply(apply, network, x, (path,))
        leaves = {path: jnp.asarray(np.float32(1.5) * get_leaves(network, (path,))[path])}
        outputs = run_suffix(split, leaves, run_prefix(split, network, x))
        expected = jax.jit(apply)(set_leaves(network, leaves), x)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        sizes.append((run_prefix._cache_size(), run_suffix._cache_size()))
    assert sizes[0] == sizes[1] == sizes[2]


def test_a_split_that_was_made_in_a_trace_outlives_it():
    """Its program holds no value of the trace around it, not even constants of the function."""
    table = jnp.linspace(-1.0, 1.0, 6)

    def apply(params, x):
        return jnp.tanh(x * table + jnp.sin(jnp.arange(6.0))) @ params["w"]

    params = {"w": _weights((6, 3))[0]}

    @jax.jit
    def inside(params, x):
        split = split_apply(apply, params, x, ("w",))
        return split.suffix(params, split.prefix(params, x))

    expected = jax.jit(apply)(params, X)
    np.testing.assert_allclose(inside(params, X), expected, rtol=1e-5, atol=1e-6)
    split = split_apply(apply, params, X, ("w",))
    outputs = run_suffix(split, params, run_prefix(split, params, X))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("paths", [("fc1/bias", "head/kernel"), ("fc2/kernel",)])
def test_cached_features_are_those_of_the_split(paths):
    subject = tiny.subject()
    x = jnp.asarray(tiny.blobs(2100, 5).x)  # more than the 2,048 of a batch
    found = cached_features(subject.apply, subject.params, x, paths)
    split = split_apply(subject.apply, subject.params, x, paths)
    expected = run_prefix(split, subject.params, x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )


def test_candidates_under_vmap_equal_one_by_one():
    apply, params, x, path = _linen_mlp()
    split = split_apply(apply, params, x, (path,))
    features = run_prefix(split, params, x)
    candidates = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    together = jax.jit(jax.vmap(split.suffix, (0, None)))({path: candidates}, features)
    together = np.asarray(together)
    for index in range(3):
        alone = jax.jit(apply)(set_leaves(params, {path: jnp.asarray(candidates[index])}), x)
        np.testing.assert_allclose(together[index], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("network", "axis"),
    [
        (_linen_mlp, -1),
        pytest.param(_linen_cnn, -1, marks=pytest.mark.slow),
        (_two_layers, -1),
        (_patches, 0),
    ],
)
def test_arranged_features_give_the_same_outputs(network, axis):
    """Of dense layers with the examples as columns, of others as they are."""
    apply, params, x, patterns = network()
    paths = match_paths(params, patterns)
    split, leaves = split_apply(apply, params, x, paths), get_leaves(params, paths)
    features = run_prefix(split, params, x)
    arranged = run_arranged(split, features)
    assert arranged.axis == axis and split.arranged(arranged).axis == axis
    assert {part.shape[axis] for part in arranged.per_example} == {N}
    rows = np.array([5, 0, 3])

    @jax.jit
    def outputs_of(leaves, features):
        return split.suffix(leaves, features), split.suffix(
            leaves, features.take(jnp.asarray(rows))
        )

    expected = np.asarray(jax.jit(apply)(params, x))
    for some in (features, arranged):
        outputs, drawn = outputs_of(leaves, some)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(drawn, expected[rows], rtol=1e-5, atol=1e-6)


def _count_products(function, *arguments):
    """Matrix products in the program of a function."""
    return str(jax.make_jaxpr(function)(*arguments)).count("dot_general[")


@pytest.mark.parametrize("depth", [1, 4])
def test_the_suffix_holds_no_layer_before_the_site(depth):
    subject = tiny.subject(0, (6,) * depth + (5,))
    path = f"fc{depth + 1}/kernel"
    split = split_apply(subject.apply, subject.params, X, (path,))
    features = run_prefix(split, subject.params, X)
    assert _count_products(split.suffix, get_leaves(subject.params, (path,)), features) == 2
    assert _count_products(split.prefix, subject.params, X) == depth
    assert _count_products(subject.apply, subject.params, X) == depth + 2
    # Cached per example: the input of the edited layer and nothing more.
    assert [f.shape for f in features.per_example] == [(N, 1, 6)]


def test_nested_calls_are_cut_at_the_site():
    apply, params, x, path = _nested_jit()
    split = split_apply(apply, params, x, (path,))
    assert _count_products(split.prefix, params, x) == 1
    features = run_prefix(split, params, x)
    assert _count_products(split.suffix, get_leaves(params, (path,)), features) == 2
    assert [array.shape for array in features.shared] == [params["c"].shape]


def test_a_site_without_effect_is_refused():
    params = {"used": jnp.ones((6, 3)), "unused": jnp.ones((6, 3))}

    def apply(params, x):
        return x @ params["used"] + 0.0 * jax.lax.stop_gradient(x[:, :3])

    with pytest.raises(ValueError, match="do not depend on the edited leaves"):
        split_apply(apply, params, X, ("unused",))


def _tapped(network):
    """The split of a network, its edited leaves and features, and taps of zero."""
    apply, params, x, patterns = network()
    paths = match_paths(params, patterns)
    split = split_apply(apply, params, x, paths)
    leaves = get_leaves(params, paths)
    taps = {path: jnp.zeros((len(x), leaf.shape[-1])) for path, leaf in leaves.items()}
    return split, leaves, run_prefix(split, params, x), taps


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [_two_layers, _patches, _nested_jit, _embedding],
    ids=lambda make: make.__name__.strip("_"),
)
def test_taps_of_zero_change_nothing(network):
    split, leaves, features, taps = _tapped(network)
    outputs, inputs = jax.jit(split.tapped)(leaves, features, taps)
    expected = jax.jit(split.suffix)(leaves, features)
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-6)
    positions = 2 * 2 if network is _patches else 1  # images of 6×5, then maps of 3×3
    for path, leaf in leaves.items():
        assert inputs[path].shape == (N, positions, leaf.shape[0])


def _layers64(seed=0):
    """Weights of `tiny.subject` in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tiny.subject(seed).params)


def _numpy_mlp(params, x, taps):
    """Outputs and what ``fc2`` and ``head`` read, with ``taps`` added to what both put out."""
    first = np.maximum(x @ params["fc1"]["kernel"] + params["fc1"]["bias"], 0)
    z = first @ params["fc2"]["kernel"] + params["fc2"]["bias"] + taps["fc2/kernel"]
    second = np.maximum(z, 0)
    outputs = second @ params["head"]["kernel"] + params["head"]["bias"] + taps["head/kernel"]
    return outputs, {"fc2/kernel": first, "head/kernel": second}


@pytest.fixture(scope="module")
def two_sites():
    split, leaves, features, taps = _tapped(_two_layers)
    return jax.jit(split.tapped), leaves, features, taps


def test_inputs_of_two_sites_are_those_of_the_layers(two_sites):
    """The second layer reads what the edited first one puts out, taps included."""
    tapped, leaves, features, taps = two_sites
    rng = np.random.default_rng(2)
    moved = {path: rng.normal(size=tap.shape).astype(np.float32) for path, tap in taps.items()}
    edited = {path: 1.5 * leaf - 0.2 for path, leaf in leaves.items()}
    params = _layers64()
    for path, leaf in edited.items():
        params[path.split("/")[0]]["kernel"] = np.asarray(leaf, np.float64)
    outputs, inputs = tapped(edited, features, jax.tree.map(jnp.asarray, moved))
    expected, read = _numpy_mlp(params, np.asarray(X), moved)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    for path, values in read.items():
        np.testing.assert_allclose(inputs[path][:, 0], values, rtol=1e-4, atol=1e-5)
    assert np.abs(read["head/kernel"]).max() > 0.1  # not all dead


def test_gradients_by_taps_are_finite_differences_of_numpy(two_sites):
    tapped, leaves, features, taps = two_sites
    rng = np.random.default_rng(3)
    direction = rng.normal(size=(N, tiny.CLASSES))
    score = lambda taps: jnp.vdot(tapped(leaves, features, taps)[0], direction)  # noqa: E731
    gradient = jax.jit(jax.grad(score))(taps)
    params, x = _layers64(), np.asarray(X, np.float64)
    for path, tap in taps.items():
        expected = np.zeros(tap.shape)
        for index in np.ndindex(tap.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = {p: np.zeros(t.shape) for p, t in taps.items()}
                moved[path][index] = step
                sides.append(np.vdot(_numpy_mlp(params, x, moved)[0], direction))
            expected[index] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(gradient[path], expected, rtol=1e-4, atol=1e-5)
        assert np.any(expected != 0)


@pytest.mark.slow
def test_a_tap_of_a_convolution_is_a_bias_at_every_position():
    """Examples have taps of their own; one that all share is the layer's bias."""
    split, leaves, features, taps = _tapped(_patches)
    apply, params, x, _ = _patches()
    direction = jax.random.normal(jax.random.key(1), (N, 3))

    @jax.jit
    def both(taps, bias):
        own = jax.grad(lambda taps: jnp.vdot(split.tapped(leaves, features, taps)[0], direction))
        whole = jax.grad(
            lambda bias: jnp.vdot(apply(set_leaves(params, {"conv2/bias": bias}), x), direction)
        )
        return own(taps)["conv2/kernel"], whole(bias), split.tapped(leaves, features, taps)

    gradient, by_bias, (_, inputs) = both(taps, params["conv2"]["bias"])
    np.testing.assert_allclose(gradient.sum(0), by_bias, rtol=1e-4, atol=1e-5)
    assert np.abs(by_bias).max() > 1e-3
    # What the layer reads: patches of the first layer's maps, each of nine pixels, by hand.
    maps = _numpy_layer(np.asarray(x), params["conv1"])
    read = _patches_by_hand(np.maximum(maps, 0))
    np.testing.assert_allclose(inputs["conv2/kernel"], read, rtol=1e-4, atol=1e-5)


def _patches_by_hand(x):
    """Every second 3×3 patch ``[N, Q, 9 C]``, zeros beyond the border as in ``"SAME"``."""
    height, width = x.shape[1:3]
    patches = []
    for row in range(-(-height // 2)):
        for column in range(-(-width // 2)):
            patch = []
            for a in range(3):
                for b in range(3):
                    pads = [
                        max((-(-size // 2) - 1) * 2 + 3 - size, 0) // 2 for size in (height, width)
                    ]
                    r, c = 2 * row + a - pads[0], 2 * column + b - pads[1]
                    inside = 0 <= r < height and 0 <= c < width
                    patch.append(x[:, r, c] if inside else np.zeros_like(x[:, 0, 0]))
            patches.append(np.concatenate(patch, axis=1))
    return np.stack(patches, axis=1)


def _numpy_layer(x, layer):
    """A strided convolution of `CNN` in NumPy, ``[N, height, width, C]``."""
    height, width = (-(-size // 2) for size in x.shape[1:3])
    z = _patches_by_hand(x) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    return z.reshape(len(x), height, width, -1)


def _twice():
    """One matrix in two layers."""
    w1, w2 = _weights((6, 6), (6, 3))
    return lambda p, x: jnp.tanh(x @ p["a"]) @ p["a"] @ p["b"], {"a": w1, "b": w2}, X, "a"


def _transposed():
    w1, w2 = _weights((5, 6), (5, 3))
    return lambda p, x: jnp.tanh(x @ p["a"].T) @ p["b"], {"a": w1, "b": w2}, X, "a"


def _normalized():
    """``x @ W`` of a matrix that is changed on its way."""
    w1, w2 = _weights((6, 5), (5, 3))
    return lambda p, x: jnp.tanh(x @ jnp.square(p["a"])) @ p["b"], {"a": w1, "b": w2}, X, "a"


@pytest.mark.parametrize(
    ("network", "culprits"),
    [
        (_last_bias, "head/bias"),
        (_several, "fc2/bias"),
        (_convolutions, "conv2/kernel"),
        (_scan_at_the_site, "stack"),
        (_twice, "a"),
        (_transposed, "a"),
        (_normalized, "a"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_leaf_that_is_no_dense_kernel_cannot_be_tapped(network, culprits):
    split, leaves, features, taps = _tapped(network)
    with pytest.raises(ValueError, match=f"does not use {culprits} once, as x @ W: what a layer"):
        split.tapped(leaves, features, taps)


@lru_cache
def _two_heads():
    """Two layers that read the same features; the sum of what they put out is activated."""
    w, a, b, head = _weights((6, 5), (5, 4), (5, 4), (4, 3))

    def apply(params, x):
        h = jnp.tanh(x @ params["w"])
        return jnp.maximum(h @ params["a"] - h @ params["b"], 0.0) @ params["head"]

    return apply, {"w": w, "a": a, "b": b, "head": head}, X, ("a", "b")


@pytest.mark.parametrize("chosen", [("a",), ("b",), ("a", "b")], ids="-".join)
@pytest.mark.parametrize("arranged", [True, False])
def test_what_is_added_to_a_kernel_is_part_of_it(chosen, arranged):
    """Against NumPy in float64, whichever of the layers it is and however the examples lie."""
    apply, params, x, paths = _two_heads()
    split, rng = split_apply(apply, params, x, paths), np.random.default_rng(1)
    plain = run_prefix(split, params, x)
    columns = run_arranged(split, plain)
    assert split.entries == ("a", "b") and columns.axis == -1
    features = columns if arranged else plain
    leaves = get_leaves(params, paths)
    added = {
        path: Factors(*(jnp.float32(rng.normal(size=(size, 2))) for size in (5, 4)))
        for path in chosen
    }
    kernels = {
        path: leaf
        if path not in added
        else jnp.asarray(np.full(leaf.shape, np.nan, np.float32))  # not read
        for path, leaf in leaves.items()
    }
    found = run_suffix(split, kernels, features, added, run_products(split, leaves, features))
    exact = {path: np.asarray(leaf, np.float64) for path, leaf in params.items()}
    for path, (left, right) in added.items():
        exact[path] = exact[path] + np.float64(left) @ np.float64(right).T
    hidden = np.tanh(np.float64(x) @ exact["w"])
    expected = np.maximum(hidden @ (exact["a"] - exact["b"]), 0.0) @ exact["head"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@jax.custom_jvp
def _centered(x):
    """Has a derivative rule of its own, as activations have, but looks at whole rows."""
    return x - x.mean(-1, keepdims=True)


_centered.defjvp(lambda x, t: (_centered(*x), _centered(*t)))


def _of_columns(second):
    """A network whose second of two layers is some function of the first and the parameters."""
    w, a, b = _weights((6, 4), (4, 4), (4, 3))
    return lambda p, x: second(jnp.tanh(x @ p["w"]), p), {"w": w, "a": a, "b": b}, X, "a"


@pytest.mark.parametrize(
    ("second", "axis"),
    [
        (lambda h, p: jax.nn.relu(h @ p["a"]) @ p["b"], -1),
        (lambda h, p: jax.nn.softmax(h @ p["a"]) @ p["b"], 0),  # sums a row
        (lambda h, p: jax.nn.logsumexp(h @ p["a"], axis=-1, keepdims=True), 0),
        (lambda h, p: jax.nn.relu(h.reshape(len(h), 2, 2) @ p["a"][:2]), 0),  # two rows
        (lambda h, p: jnp.einsum("nd,nde->ne", h, h[:, :, None] * p["a"]), 0),  # own kernels
        (lambda h, p: (h @ p["a"]) @ (h.T * p["a"]), 0),  # likewise, of a single example
        (lambda h, p: _centered(h @ p["a"]), 0),
        (lambda h, p: jax.nn.relu(h) * p["a"][0], -1),
    ],
)
def test_examples_are_columns_where_rows_are_mapped_to_rows(second, axis):
    apply, params, x, path = _of_columns(second)
    split = split_apply(apply, params, x, (path,))

    @jax.jit
    def both(params, x):
        features = split.arranged(split.prefix(params, x))
        found = split.suffix(get_leaves(params, (path,)), features)
        return features, found, jax.lax.map(lambda one: apply(params, one[None])[0], x)

    features, found, expected = both(params, x)
    assert features.axis == axis
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
