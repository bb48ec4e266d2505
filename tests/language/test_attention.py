"""Attention and rotary positions against plain loops in NumPy."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from modeledit_jax.language.attention import (
    attend,
    cap,
    causal_mask,
    rotary_angles,
    rotate,
    visible,
)
from modeledit_jax.language.config import RotaryScaling
from tests.language.tiny_models import LLAMA

rng = np.random.default_rng(0)


def test_attention_equals_a_loop_over_heads():
    n, length, heads, shared, d = 2, 5, 4, 2, 3
    query = rng.normal(size=(n, length, heads, d))
    key, value = (rng.normal(size=(n, length, shared, d)) for _ in range(2))
    attention = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    places = jnp.arange(length)
    mask = visible(causal_mask(jnp.asarray(attention)), places[:, None] - places, 3)
    arrays = (jnp.asarray(x, jnp.float32) for x in (query, key, value))
    mixed = np.asarray(attend(*arrays, mask, 0.7, 2.0))
    for row, position, head in np.ndindex(n, length, heads):
        seen = [j for j in range(position + 1) if attention[row, j] and position - j < 3]
        scores = np.array([0.7 * query[row, position, head] @ key[row, j, head // 2] for j in seen])
        weights = np.exp(2.0 * np.tanh(scores / 2.0))
        expected = (weights / weights.sum()) @ np.array([value[row, j, head // 2] for j in seen])
        one = mixed[row, position].reshape(heads, d)[head]
        np.testing.assert_allclose(one, expected, atol=1e-5)


def test_a_query_that_sees_nothing_is_finite():
    x = jnp.asarray(rng.normal(size=(1, 2, 1, 2)), jnp.float32)
    mixed = attend(x, x, x, jnp.zeros((1, 2, 2), bool), 1.0)
    np.testing.assert_allclose(mixed, np.broadcast_to(x.mean(1).reshape(1, 1, 2), (1, 2, 2)))


def test_rotation_depends_on_distance_alone():
    config = dataclasses.replace(LLAMA, head_dim=6)
    angles = rotary_angles(config, jnp.arange(10))
    assert angles.shape == (10, 3)
    np.testing.assert_allclose(angles[1], 10_000.0 ** -(np.arange(3) / 3), rtol=1e-6)
    a, b = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(2))
    turned_a, turned_b = (
        rotate(jnp.broadcast_to(x, (1, 10, 1, 6)), angles)[0, :, 0] for x in (a, b)
    )
    products = turned_a @ turned_b.T
    np.testing.assert_allclose(products[2, 5], products[6, 9], atol=1e-5)
    np.testing.assert_allclose(turned_a[0], a)


def test_llama_3_scaling_keeps_fast_waves_and_slows_the_others():
    scaling = RotaryScaling(factor=8.0, low_frequency=1.0, high_frequency=4.0, original_context=64)
    config = dataclasses.replace(LLAMA, head_dim=16, rope_theta=1e4, rope_scaling=scaling)
    scaled = np.asarray(rotary_angles(config, jnp.arange(2))[1], np.float64)
    plain = 1e4 ** -(np.arange(8) / 8)
    waves = 2 * np.pi / plain
    smooth = (64 / waves - 1.0) / (4.0 - 1.0)
    middle = (1 - smooth) * plain / 8 + smooth * plain
    expected = np.where(waves > 64, plain / 8, np.where(waves < 16, plain, middle))
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)


def test_the_soft_cap_bounds():
    x = jnp.asarray([-100.0, 0.5, 100.0])
    np.testing.assert_allclose(cap(x, 3.0), [-3.0, 3 * np.tanh(0.5 / 3), 3.0], rtol=1e-6)
    assert cap(x, None) is x
