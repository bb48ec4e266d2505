"""Some rows at a time: the values and gradients of all at once, and what is kept of a part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.parts_of_rows import by_parts, joined, part_size, split
from modeledit_jax.memory import live_bytes


def test_sizes_divide_the_rows():
    sizes = [part_size(12, allowed) for allowed in (None, 100, 12, 11, 5, 3, 1)]
    assert sizes == [12, 12, 12, 6, 4, 3, 1]
    assert part_size(7, 6) == 1


def test_parts_are_dealt_out_and_put_together_again():
    rows = jnp.arange(6)
    np.testing.assert_array_equal(split(rows, 3), [[0, 2, 4], [1, 3, 5]])
    np.testing.assert_array_equal(joined(split(rows, 3)), rows)


def loss(weight, rows, rows_at_once):
    def of_rows(rows):
        return jnp.tanh(rows["x"] @ weight).sum(-1), rows["y"]

    first, second = by_parts(of_rows, rows, rows_at_once)
    return (first * jnp.arange(1.0, 7.0) + second).sum()


@pytest.mark.parametrize("allowed", [1, 2, 4])
def test_value_and_gradient_are_those_of_all_rows(allowed, rng):
    rows = {"x": jnp.asarray(rng.normal(size=(6, 4)), jnp.float32), "y": jnp.arange(6.0)}
    weight = jnp.asarray(rng.normal(size=(4, 8)), jnp.float32)
    whole, parts = (jax.value_and_grad(loss)(weight, rows, count) for count in (None, allowed))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-5)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-4, atol=1e-6)


def test_of_a_part_nothing_wide_is_kept():
    weight = jax.ShapeDtypeStruct((1, 10_000), jnp.float32)
    rows = {"x": jax.ShapeDtypeStruct((6, 1), jnp.float32), "y": jnp.zeros(6)}
    sizes = [
        live_bytes(lambda w, r, n=count: jax.grad(loss)(w, r, n), weight, rows)
        for count in (None, 3, 1)
    ]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    assert sizes[0] - sizes[2] > 4 * 40_000  # float32, of five rows
