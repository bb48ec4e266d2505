"""The hooked linear layer against NumPy in float64, and its tap against the kernel's gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.hooked_linear import Hook, linear


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    shapes = {"W": (5, 7), "x": (2, 3, 5), "b": (7,), "K": (4, 5), "M": (4, 7), "D": (5, 7)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def jaxed(arrays):
    return {name: jnp.asarray(value) for name, value in arrays.items()}


@pytest.mark.parametrize("mask", [None, 0.0, 1.0, 0.5])
def test_the_side_path_equals_the_edited_weight(arrays, mask):
    a = jaxed(arrays)
    hook = Hook(
        tap=jnp.full((2, 3, 7), 0.25),
        keys=a["K"],
        values=a["M"],
        delta=a["D"],
        mask=None if mask is None else jnp.float32(mask),
    )
    W, x, b, K, M, D = (arrays[name].astype(np.float64) for name in "WxbKMD")
    scale = 1.0 if mask is None else mask
    expected = x @ (W + scale * (K.T @ M + D)) + b + 0.25
    np.testing.assert_allclose(linear(a["W"], a["x"], a["b"], hook), expected, atol=2e-5)


def test_zeros_leave_every_bit(arrays):
    a = jaxed(arrays)
    zero = Hook(
        tap=jnp.zeros((2, 3, 7)), keys=jnp.zeros((4, 5)), values=a["M"], delta=jnp.zeros((5, 7))
    )
    off = Hook(keys=a["K"], values=a["M"], delta=a["D"], mask=jnp.zeros(()))
    plain = jax.jit(linear)(a["W"], a["x"], a["b"])
    for hook in (Hook(), zero, off):
        hooked = jax.jit(linear)(a["W"], a["x"], a["b"], hook)
        np.testing.assert_array_equal(hooked, plain)


def test_input_and_gradient_of_the_tap_make_the_gradient_of_the_kernel(arrays):
    a = jaxed(arrays)

    def loss(W, tap):
        return jnp.sum(jnp.sin(linear(W, a["x"], a["b"], Hook(tap=tap))))

    dW, dtap = jax.grad(loss, argnums=(0, 1))(a["W"], jnp.zeros((2, 3, 7)))
    np.testing.assert_allclose(jnp.einsum("nli,nlo->io", a["x"], dtap), dW, atol=1e-5)
    x, W = arrays["x"].astype(np.float64), arrays["W"].astype(np.float64)
    np.testing.assert_allclose(dtap, np.cos(x @ W + arrays["b"]), atol=1e-5)


def test_a_float32_edit_survives_bfloat16_weights():
    W, x = jnp.ones((256, 1), jnp.bfloat16), jnp.ones((1, 256), jnp.bfloat16)
    small = Hook(delta=jnp.full((256, 1), 1e-3))
    y = linear(W, x, hook=small, dtype=jnp.float32)
    np.testing.assert_allclose(y, 256.256, rtol=1e-5)
    assert linear(W, x).dtype == jnp.bfloat16


def test_candidate_edits_are_a_vmap(arrays):
    a = jaxed(arrays)
    keys = jnp.stack([a["K"], -a["K"], 0 * a["K"]])
    many = jax.vmap(lambda k: linear(a["W"], a["x"], hook=Hook(keys=k, values=a["M"])))(keys)
    for one, k in zip(many, keys, strict=True):
        expected = linear(a["W"], a["x"], hook=Hook(keys=k, values=a["M"]))
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_half_a_low_rank_edit_is_refused(arrays):
    a = jaxed(arrays)
    with pytest.raises(ValueError, match="both keys and values"):
        linear(a["W"], a["x"], hook=Hook(keys=a["K"]))
