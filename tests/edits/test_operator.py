import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modeledit_jax.edits.operator import mask, shift

# XLA rounds subnormal numbers to zero.
ENTRIES = st.floats(-50, 50, width=32, allow_subnormal=False)
MATRICES = arrays(np.float32, (3, 2), elements=ENTRIES)
SCALE = jnp.float32(0.3)


@settings(deadline=None, max_examples=25)
@given(weights=MATRICES, matrix=MATRICES)
def test_mask_and_shift_agree_with_numpy(weights, matrix):
    masked = mask(jnp.asarray(weights), jnp.asarray(matrix), SCALE)
    shifted = shift(jnp.asarray(weights), jnp.asarray(matrix), SCALE)
    expected = weights * (1.0 + np.tanh(matrix.astype(np.float64)))
    np.testing.assert_allclose(masked, expected, rtol=1e-5, atol=2e-5)  # tanh is rounded near ±1
    np.testing.assert_allclose(shifted, weights + 0.3 * matrix, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", [mask, shift])
@settings(deadline=None, max_examples=25)
@given(weights=MATRICES)
def test_zero_matrix_leaves_every_weight_as_it_is(operator, weights):
    edited = operator(jnp.asarray(weights), jnp.zeros((3, 2)), SCALE)
    np.testing.assert_array_equal(edited, weights)


@settings(deadline=None, max_examples=25)
@given(weights=MATRICES, matrix=MATRICES)
def test_mask_never_turns_a_sign_nor_more_than_doubles(weights, matrix):
    edited = np.asarray(mask(jnp.asarray(weights), jnp.asarray(matrix), SCALE))
    assert np.all(edited * weights >= 0)
    assert np.all(np.abs(edited) <= 2 * np.abs(weights))


def test_the_scale_is_the_unit_of_a_shift_and_none_of_a_mask():
    weights, matrix = jnp.ones((3, 2)), jnp.full((3, 2), 0.5)
    assert float(shift(weights, matrix, jnp.float32(4.0))[0, 0]) == 3.0
    np.testing.assert_array_equal(
        mask(weights, matrix, jnp.float32(4.0)), mask(weights, matrix, jnp.float32(1.0))
    )
