import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.edits.edit import Edit, spread
from modeledit_jax.edits.operator import mask, shift
from modeledit_jax.edits.parametrization import LowRank, PerColumn, PerRow, PerWeight
from modeledit_jax.edits.site import get_leaves, leaf_paths, match_paths, set_leaves
from tests import tiny

PARAMS = tiny.subject().params
SITE = match_paths(PARAMS, ("fc1/bias", "fc2/kernel"))
LEAVES = get_leaves(PARAMS, SITE)
EDITS = [
    Edit.of(LEAVES, operator, parametrization)
    for operator in (mask, shift)
    for parametrization in (LowRank(3), PerWeight(), PerRow(), PerColumn())
]


def _ids(edit):
    return f"{edit.operator.__name__}-{type(edit.parametrization).__name__}"


@pytest.mark.parametrize("edit", EDITS, ids=_ids)
def test_zero_action_changes_nothing(edit):
    edited = edit(LEAVES, LEAVES, jnp.zeros(edit.action_size))
    for path in SITE:
        np.testing.assert_array_equal(edited[path], LEAVES[path])


@pytest.mark.parametrize("edit", EDITS, ids=_ids)
def test_any_action_changes_the_site_and_no_other_leaf(edit):
    action = jax.random.normal(jax.random.key(0), (edit.action_size,))
    params = set_leaves(PARAMS, edit(LEAVES, LEAVES, action))
    before, after = (get_leaves(tree, leaf_paths(PARAMS)) for tree in (PARAMS, params))
    for path in before:
        if path in SITE:
            assert np.all(np.asarray(after[path] != before[path]))
            assert after[path].shape == before[path].shape
        else:
            assert after[path] is before[path]


def test_default_is_low_rank():
    assert Edit.of(LEAVES, mask).parametrization == LowRank()


def test_every_leaf_takes_its_own_stretch_of_the_action_in_order():
    edit = Edit.of(LEAVES, shift, PerWeight())
    assert edit.action_size == 5 + 5 * 4
    matrices = edit.matrices(jnp.arange(25.0))
    assert list(matrices) == ["fc1/bias", "fc2/kernel"]
    np.testing.assert_array_equal(matrices["fc1/bias"], np.arange(5.0))
    np.testing.assert_array_equal(matrices["fc2/kernel"], np.arange(5.0, 25.0).reshape(5, 4))


def test_start_joins_the_starts_of_the_leaves_drawn_independently():
    leaves = {"a": jnp.ones((5, 4)), "b": jnp.ones((5, 4))}
    edit = Edit.of(leaves, shift, LowRank(2))
    start = edit.start(jax.random.key(1))
    assert start.shape == (edit.action_size,)
    one, other = jnp.split(start, 2)
    assert not np.any(np.asarray(one == other))
    np.testing.assert_array_equal(Edit.of(leaves, shift, PerRow()).start(jax.random.key(1)), 0.0)


@pytest.mark.parametrize("size", [24, 26])
def test_an_action_of_the_wrong_size_is_refused(size):
    with pytest.raises(ValueError, match=r"25 entries .* got shape"):
        Edit.of(LEAVES, shift, PerWeight()).matrices(jnp.zeros(size))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_shifts_of_an_episode_add_up_in_units_of_the_unedited_spread(seed):
    edit = Edit.of(LEAVES, shift, PerWeight())
    first, second = jax.random.normal(jax.random.key(seed), (2, edit.action_size))
    twice = edit(edit(LEAVES, LEAVES, first), LEAVES, second)
    once = edit(LEAVES, LEAVES, first + second)
    for path in SITE:
        np.testing.assert_allclose(twice[path], once[path], rtol=1e-4, atol=1e-5)


def test_spread_is_the_standard_deviation_and_one_for_equal_weights():
    leaf = PARAMS["fc2"]["kernel"]
    assert float(spread(leaf)) == pytest.approx(np.asarray(leaf, np.float64).std(), rel=1e-5)
    assert float(spread(jnp.full((3, 2), 0.25))) == 1.0


@pytest.mark.parametrize("operator", [mask, shift])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_weights_stay_half_precision(operator, dtype):
    leaves = {"w": jnp.ones((5, 4), dtype)}
    edit = Edit.of(leaves, operator, LowRank(2))
    edited = edit(leaves, leaves, jnp.ones(edit.action_size))
    assert edited["w"].dtype == dtype
    # M = 2 / √2 everywhere; equal weights have spread 1.
    factor = 1 + np.tanh(2**0.5) if operator is mask else 1 + 2**0.5
    np.testing.assert_allclose(edited["w"].astype(jnp.float32), factor, rtol=1e-2)


def test_edits_of_many_actions_under_vmap_equal_a_loop():
    edit = Edit.of(LEAVES, mask, LowRank(2))
    actions = jax.random.normal(jax.random.key(2), (4, edit.action_size))
    together = jax.jit(jax.vmap(edit, (None, None, 0)))(LEAVES, LEAVES, actions)
    for index, action in enumerate(actions):
        alone = edit(LEAVES, LEAVES, action)
        for path in SITE:
            np.testing.assert_allclose(together[path][index], alone[path], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("edit", EDITS, ids=_ids)
def test_factors_multiply_to_what_a_shift_adds(edit):
    if edit.operator is mask or isinstance(edit.parametrization, PerWeight):
        assert not edit.is_low_rank
        return
    action = jax.random.normal(jax.random.key(0), (edit.action_size,))
    edited, factors = edit(LEAVES, LEAVES, action), edit.factors(action, LEAVES)
    assert edit.is_low_rank and set(factors) == set(SITE)
    for path, (left, right) in factors.items():
        added = np.asarray(edited[path], np.float64) - np.asarray(LEAVES[path], np.float64)
        product = np.asarray(left, np.float64) @ np.asarray(right, np.float64).T
        np.testing.assert_allclose(product.reshape(added.shape), added, rtol=1e-4, atol=1e-6)
