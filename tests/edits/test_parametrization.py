import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.parametrization import (
    LowRank,
    PerColumn,
    PerRow,
    PerWeight,
    matrix_shape,
)
from tests.envs.numpy_world import matrix as numpy_matrix

SHAPES = ((5, 4), (7,), (3, 3, 2, 4), (1, 1))
PARAMETRIZATIONS = (LowRank(1), LowRank(4), PerWeight(), PerRow(), PerColumn())


@pytest.mark.parametrize(
    ("shape", "expected"), [((5, 4), (5, 4)), ((7,), (1, 7)), ((3, 3, 2, 4), (18, 4))]
)
def test_leaves_are_read_as_matrices_with_the_last_axis_as_columns(shape, expected):
    assert matrix_shape(shape) == expected


def test_a_scalar_leaf_is_refused():
    with pytest.raises(ValueError, match="choose an array leaf"):
        matrix_shape(())


@pytest.mark.parametrize(
    ("parametrization", "sizes"),
    [
        (LowRank(3), (3 * 9, 3 * 8, 3 * 22)),
        (PerWeight(), (20, 7, 72)),
        (PerRow(), (5, 1, 18)),
        (PerColumn(), (4, 7, 4)),
    ],
)
def test_action_sizes(parametrization, sizes):
    assert tuple(parametrization.size(shape) for shape in SHAPES[:3]) == sizes


@settings(deadline=None, max_examples=25)
@given(
    shape=st.sampled_from(SHAPES),
    parametrization=st.sampled_from(PARAMETRIZATIONS),
    seed=st.integers(0, 2**32 - 1),
)
def test_matrices_agree_with_numpy_loops(shape, parametrization, seed):
    size = parametrization.size(shape)
    action = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    result = parametrization.matrix(jnp.asarray(action), shape)
    assert result.shape == shape and result.dtype == jnp.float32
    expected = numpy_matrix(parametrization, action, shape)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_action_is_the_zero_matrix(parametrization, shape):
    matrix = parametrization.matrix(jnp.zeros(parametrization.size(shape)), shape)
    np.testing.assert_array_equal(matrix, np.zeros(shape))


def test_low_rank_has_its_rank_and_the_spread_of_one_rank():
    # 1/√R keeps the spread of the entries independent of the rank.
    spreads = []
    for rank in (1, 3, 8):
        action = jax.random.normal(jax.random.key(rank), (LowRank(rank).size((120, 100)),))
        matrix = LowRank(rank).matrix(action, (120, 100))
        assert np.linalg.matrix_rank(matrix) == rank
        spreads.append(float(matrix.std()))
    np.testing.assert_allclose(spreads, 1.0, atol=0.2)


@pytest.mark.parametrize("rank", [0, -1])
def test_low_rank_needs_a_rank(rank):
    with pytest.raises(ValueError, match="at least 1"):
        LowRank(rank)


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_start_fits_the_action(parametrization):
    start = parametrization.start(jax.random.key(0), (30, 20))
    assert start.shape == (parametrization.size((30, 20)),) and start.dtype == jnp.float32


@pytest.mark.slow
def test_a_search_from_the_start_has_a_first_order_signal():
    def gain(action, parametrization):
        return parametrization.matrix(action, (30, 20)).sum()

    for parametrization in PARAMETRIZATIONS:
        start = parametrization.start(jax.random.key(0), (30, 20))
        assert jnp.abs(jax.grad(gain)(start, parametrization)).sum() > 0
    still = jnp.zeros(LowRank().size((30, 20)))
    assert jnp.abs(jax.grad(gain)(still, LowRank())).sum() == 0  # hence not zero


def test_low_rank_start_has_the_asked_spread():
    start = LowRank(4, start_scale=0.7).start(jax.random.key(0), (300, 200))
    assert float(start.std()) == pytest.approx(0.7, rel=0.05)
