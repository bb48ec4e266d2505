import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.subjects.image_classifiers import (
    CNN,
    MLP,
    ResNet,
    make_classifier,
    unfold,
)


def _dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def _init(module, x):
    """Parameters whose biases are not zero, or a mistake in them would go unseen."""
    params = jax.jit(module.init)(jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + rng.normal(scale=0.1, size=leaf.shape).astype("f"), params
    )


def test_mlp_equals_numpy():
    x = jax.random.normal(jax.random.key(2), (5, 3, 2))
    module = MLP(4, (7, 6))
    params = _init(module, x)
    hidden = np.asarray(x, np.float64).reshape(5, 6)
    for name in ("fc1", "fc2"):
        hidden = np.maximum(_dense(params[name], hidden), 0.0)
    np.testing.assert_allclose(
        jax.jit(module.apply)({"params": params}, x),
        _dense(params["head"], hidden),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", [MLP, CNN])
def test_other_activations(kind):
    """The last hidden layer by hand; all layers use the same function."""
    x = jax.random.normal(jax.random.key(2), (5, 6, 6, 2))
    params = _init(kind(4, hidden=(7, 6)), x)
    functions = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    }
    for name, function in functions.items():
        module = kind(4, hidden=(7, 6), activation=name)
        y, state = module.apply({"params": params}, x, capture_intermediates=True)
        seen = jax.tree.map(lambda z: np.asarray(z, np.float64), state["intermediates"])
        hidden = function(seen["fc1"]["__call__"][0])
        np.testing.assert_allclose(
            seen["fc2"]["__call__"][0], _dense(params["fc2"], hidden), rtol=1e-4, atol=1e-5
        )
        hidden = function(seen["fc2"]["__call__"][0])
        np.testing.assert_allclose(y, _dense(params["head"], hidden), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 5, 2)])
def test_cnn_equals_xla_convolutions(shape):
    x = jax.random.normal(jax.random.key(2), (3, *shape))
    module = CNN(4, channels=(3, 5), hidden=(6,))
    params = _init(module, x)
    hidden = x
    for name in ("conv1", "conv2"):
        kernel = params[name]["kernel"].reshape(3, 3, hidden.shape[-1], -1)
        hidden = jax.lax.conv_general_dilated(
            hidden,
            kernel,
            window_strides=(2, 2),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        hidden = jnp.maximum(hidden + params[name]["bias"], 0.0)
    hidden = np.maximum(_dense(params["fc1"], np.asarray(hidden).reshape(3, -1)), 0.0)
    np.testing.assert_allclose(
        jax.jit(module.apply)({"params": params}, x),
        _dense(params["head"], hidden),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.integers(1, 2),
    size=st.integers(1, 4),
    stride=st.integers(1, 3),
)
def test_patches_are_windows_of_the_padded_image(height, width, channels, size, stride):
    image = np.random.default_rng(0).normal(size=(2, height, width, channels)).astype(np.float32)
    rows, columns = -(-height // stride), -(-width // stride)
    lacking = [
        max((count - 1) * stride + size - extent, 0)
        for count, extent in ((rows, height), (columns, width))
    ]
    padded = np.pad(image, ((0, 0), *((n // 2, n - n // 2) for n in lacking), (0, 0)))
    # Windows that lie inside the image entirely when nothing is padded.
    expected = np.stack(
        [
            np.stack(
                [
                    padded[
                        :, r * stride : r * stride + size, c * stride : c * stride + size
                    ].reshape(2, -1)
                    for c in range(columns)
                ],
                axis=1,
            )
            for r in range(rows)
        ],
        axis=1,
    )
    patches = unfold(jnp.asarray(image), size=size, stride=stride)
    np.testing.assert_array_equal(patches, expected)


def test_default_widths_are_those_of_the_paper():
    params = jax.eval_shape(MLP().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    assert params["fc1"]["kernel"].shape == (784, 128)
    assert params["fc2"]["kernel"].shape == (128, 32)
    assert params["head"]["kernel"].shape == (32, 10)
    params = jax.eval_shape(CNN().init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))["params"]
    assert params["fc2"]["kernel"].shape == (128, 32)


def test_layer_names():
    params = jax.jit(CNN(3, channels=(2,), hidden=(4, 4)).init)(
        jax.random.key(0), jnp.zeros((1, 4, 4, 1))
    )
    layers = ("conv1", "fc1", "fc2", "head")
    assert leaf_paths(params["params"]) == tuple(
        f"{layer}/{leaf}" for layer in layers for leaf in ("bias", "kernel")
    )


@pytest.mark.parametrize(
    ("name", "norm", "kind"),
    [
        ("mlp", None, MLP),
        ("cnn", None, CNN),
        ("resnet", "group", ResNet),
        ("resnet-batchnorm", "batch", ResNet),
    ],
)
def test_make_classifier(name, norm, kind):
    module = make_classifier(name, 7)
    assert isinstance(module, kind) and module.num_classes == 7
    assert getattr(module, "norm", None) == norm


def test_unknown_classifier_names_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown subject 'vit'; choose one of mlp, cnn, resnet, resnet-batchnorm"
    ):
        make_classifier("vit", 10)
