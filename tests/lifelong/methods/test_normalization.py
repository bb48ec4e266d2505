import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.normalization import (
    FLOAT32_EPSILON,
    MEND_EPSILON,
    RunningMoments,
)
from tests.lifelong.golden import load, section

_update = jax.jit(RunningMoments.update)


def _run(batches, padding=0, **options):
    state = RunningMoments.create(batches[0].shape[1], **options)
    length = max(map(len, batches)) + padding
    for rows in batches:
        garbage = np.full((length - len(rows), rows.shape[1]), np.nan, np.float32)
        padded = jnp.asarray(np.concatenate([rows.astype(np.float32), garbage]))
        state = _update(state, padded, jnp.arange(len(padded)) < len(rows))
    return state


@pytest.mark.parametrize("padding", [0, 3])
def test_statistics_are_those_of_all_rows_however_they_are_batched(padding):
    rng = np.random.default_rng(0)
    batches = [rng.normal(4, 2, (n, 5)) for n in (1, 6, 2, 1, 9)]
    state, rows = _run(batches, padding), np.concatenate(batches)
    np.testing.assert_allclose(state.mean, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.std, rows.std(0, ddof=1), rtol=1e-5)
    assert state.count == len(rows)


def test_a_batch_without_rows_changes_nothing():
    state = _run([np.random.default_rng(0).normal(size=(4, 3))])
    after = state.update(jnp.full((2, 3), jnp.nan), jnp.zeros(2, bool))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)


def test_fresh_statistics_change_nothing_but_released_ones_divide_by_epsilon():
    rows = jnp.array([[1.0, -2.0, 0.5]])
    fresh = RunningMoments.create(3).normalize(rows)
    np.testing.assert_allclose(fresh, rows, rtol=1e-6)
    released = RunningMoments.create(3, released=True).normalize(rows)
    np.testing.assert_allclose(released, rows / FLOAT32_EPSILON, rtol=1e-6)


def test_one_row_at_a_time_is_the_normalizer_of_mend():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(7, 4)).astype(np.float32)
    state = _run([row[None] for row in rows], epsilon=MEND_EPSILON)
    expected = (rows - rows.mean(0)) / (rows.std(0, ddof=1) + MEND_EPSILON)
    np.testing.assert_allclose(state.normalize(jnp.asarray(rows)), expected, atol=1e-5)


@pytest.mark.parametrize("run", ["rledit", "hiedit_one_row"])
def test_released_formula_is_that_of_the_public_code(run):
    arrays = load("running_mean_std")
    with jax.enable_x64(True):
        state = RunningMoments.create(6, released=True, dtype=np.float64)
        for step in range(sum(k.startswith(f"{run}/") and k.endswith("rows") for k in arrays)):
            golden = section(arrays, f"{run}/{step}/")
            rows = jnp.asarray(golden["rows"])
            state = _update(state, rows)
            for name in ("mean", "squares", "std"):
                np.testing.assert_allclose(getattr(state, name), golden[name], rtol=1e-6)
            assert state.count == golden["count"]
            np.testing.assert_allclose(
                state.normalize(rows), golden["normalized"], rtol=1e-6, atol=1e-9
            )


def test_a_batch_of_one_row_is_nan_for_good_in_rledit_and_not_here():
    arrays = load("running_mean_std")
    assert np.isnan(arrays["rledit_one_row/1/std"]).all()
    assert np.isnan(arrays["rledit_one_row/2/std"]).all()
    state = RunningMoments.create(6, released=True)
    for step in range(3):
        state = state.update(jnp.asarray(arrays[f"rledit_one_row/{step}/rows"], jnp.float32))
    assert np.isfinite(state.std).all()


def test_released_deviation_is_too_large_by_n_over_n_minus_one():
    rows = np.random.default_rng(2).normal(size=(4, 3))
    released, right = _run([rows], released=True), _run([rows])
    np.testing.assert_allclose(released.std / right.std, np.sqrt(4 / 3), rtol=1e-5)
