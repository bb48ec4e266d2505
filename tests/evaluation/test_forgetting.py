import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.evaluation.forgetting import (
    TUG_OF_WAR_METRICS,
    numerical_rank,
    relative_edit_size,
    total_variation,
    tow,
)

FORGET, RETAIN, TEST = TUG_OF_WAR_METRICS


def test_tow_hand_case():
    # (1 - .10)(1 - .02)(1 - .05) = .8379
    metrics = {FORGET: 0.10, RETAIN: 0.97, TEST: 0.90, "unused": 3.0}
    reference = {FORGET: 0.0, RETAIN: 0.99, TEST: 0.95}
    np.testing.assert_allclose(tow(metrics, reference), 0.8379, rtol=1e-6)
    np.testing.assert_allclose(tow(metrics, reference, [FORGET]), 0.9, rtol=1e-6)


def test_tow_of_the_reference_is_one_and_of_the_original_near_zero():
    retrain = {FORGET: 0.0, RETAIN: 1.0, TEST: 0.98}
    assert float(tow(retrain, retrain)) == 1
    original = {FORGET: 1.0, RETAIN: 1.0, TEST: 0.98}
    assert float(tow(original, retrain)) == 0


def test_tow_broadcasts_over_tasks_and_against_one_reference():
    metrics = {name: jnp.array([0.0, 0.5, 1.0]) for name in TUG_OF_WAR_METRICS}
    reference = {name: jnp.array(0.5) for name in TUG_OF_WAR_METRICS}
    np.testing.assert_allclose(jax.jit(tow)(metrics, reference), [0.125, 1.0, 0.125])


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6))
def test_tow_is_a_symmetric_fraction(values):
    a = dict(zip(TUG_OF_WAR_METRICS, values[:3], strict=True))
    b = dict(zip(TUG_OF_WAR_METRICS, values[3:], strict=True))
    score = float(tow(a, b))
    assert 0 <= score <= 1
    assert score == float(tow(b, a))


def test_tow_names_what_is_missing():
    with pytest.raises(ValueError, match=r"reference lacks \['retain_accuracy_test'\]"):
        tow({FORGET: 0, RETAIN: 0, TEST: 0}, {FORGET: 0, RETAIN: 0})
    with pytest.raises(ValueError, match="at least one"):
        tow({}, {}, [])


def test_total_variation_matches_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 50, 6)).astype(np.float32)
    weights = rng.uniform(size=50).astype(np.float32)
    p, q = (scipy.special.softmax(x.astype(np.float64), axis=-1) for x in (a, b))
    # The definition by events: the largest difference in probability over all sets of classes.
    largest_event = np.clip(p - q, 0, None).sum(-1)
    expected = np.average(largest_event, axis=-1, weights=weights)
    actual = total_variation(jnp.asarray(a), jnp.asarray(b), jnp.asarray(weights))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_total_variation_extremes_and_broadcasting():
    certain = jnp.array([[100.0, 0.0, 0.0], [0.0, 100.0, 0.0]])
    ones = jnp.ones(2)
    assert float(total_variation(certain, certain, ones)) == 0
    assert float(total_variation(certain, certain[::-1], ones)) == 1
    candidates = jnp.stack([certain, certain[::-1]])
    np.testing.assert_array_equal(total_variation(candidates, certain, ones), [0, 1])
    np.testing.assert_allclose(total_variation(certain, certain + 7.0, ones), 0, atol=1e-6)


def test_relative_edit_size_spans_all_leaves():
    base = {"fc1/kernel": jnp.array([[3.0, 0.0]]), "fc2/bias": jnp.array([4.0])}
    edited = {"fc1/kernel": jnp.array([[3.0, 0.6]]), "fc2/bias": jnp.array([4.8])}
    # ‖(0, .6, .8)‖ / ‖(3, 0, 4)‖ = 1 / 5
    np.testing.assert_allclose(relative_edit_size(base, edited), 0.2, rtol=1e-6)
    assert float(relative_edit_size(base, base)) == 0
    doubled = jax.tree.map(lambda leaf: 2 * leaf, base)
    assert float(relative_edit_size(base, doubled)) == 1


def test_relative_edit_size_under_vmap_matches_numpy():
    base = jax.random.normal(jax.random.key(0), (3, 8, 5))
    edited = base + jax.random.normal(jax.random.key(1), (3, 8, 5))
    actual = jax.vmap(relative_edit_size)({"w": base}, {"w": edited})
    change = np.asarray(edited - base)
    expected = np.linalg.norm(change, axis=(1, 2)) / np.linalg.norm(base, axis=(1, 2))
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_relative_edit_size_refuses_other_leaves():
    w = jnp.ones((2, 2))
    with pytest.raises(ValueError, match="same edited leaves"):
        relative_edit_size({"a": w}, {"b": w})
    with pytest.raises(ValueError, match="same edited leaves"):
        relative_edit_size({}, {})
    with pytest.raises(ValueError, match=r"shape \(2, 2\) in base and \(2,\)"):
        relative_edit_size({"a": w}, {"a": w[0]})


@pytest.mark.parametrize("rank", [1, 4, 32])
def test_numerical_rank_of_a_small_edit_survives_rounding(rank):
    keys = jax.random.split(jax.random.key(rank), 3)
    base = jax.random.normal(keys[0], (128, 32))
    edit = jax.random.normal(keys[1], (128, rank)) @ jax.random.normal(keys[2], (rank, 32))
    difference = (base + 1e-3 * edit) - base
    assert int(numerical_rank(difference)) == rank
    exact = np.linalg.matrix_rank(np.asarray(edit), tol=1e-4 * np.linalg.norm(edit, 2))
    assert rank == exact


def test_numerical_rank_of_zero_batches_and_tolerance():
    assert int(numerical_rank(jnp.zeros((4, 3)))) == 0
    matrices = jnp.stack([jnp.zeros((3, 3)), jnp.eye(3), jnp.diag(jnp.array([1.0, 0.05, 0.0]))])
    np.testing.assert_array_equal(numerical_rank(matrices), [0, 3, 2])
    np.testing.assert_array_equal(numerical_rank(matrices, tolerance=0.1), [0, 3, 1])
    assert int(numerical_rank(jnp.full((3, 3), jnp.nan))) == 0
    with pytest.raises(ValueError, match="tolerance"):
        numerical_rank(jnp.eye(2), tolerance=1.0)
