import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from modeledit_jax.lifelong.low_rank import (
    LowRankUpdate,
    malmen_shift,
    mend_shift,
    ridge_shift,
    ultraedit_shift,
)
from modeledit_jax.lifelong.methods.normalization import RunningMoments

_N, _IN, _OUT = 6, 9, 5


def _rows(seed, *widths):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.normal(size=(_N, width))) for width in widths]


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def _normal_equation(u, d, c):
    return np.linalg.solve(u.T @ u + c * np.eye(u.shape[1]), u.T @ d)


@pytest.mark.parametrize("d_in", [3, 9, 40])
@pytest.mark.parametrize("ridge", [1e-2, 1.0])
def test_ridge_shift_solves_the_normal_equation(d_in, ridge):
    u, d = _rows(0, d_in, _OUT)
    expected = _normal_equation(np.asarray(u), np.asarray(d), ridge)
    shift = ridge_shift(u, d, ridge)
    assert shift.keys.shape == (_N, d_in) and shift.values.shape == (_N, _OUT)
    np.testing.assert_allclose(shift.dense(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(shift.squared_norm(), (expected**2).sum(), rtol=1e-9)


def test_the_small_system_is_accurate_in_float32():
    rng = np.random.default_rng(1)
    u, d = rng.normal(size=(8, 300)), rng.normal(size=(8, 4))
    shift = ridge_shift(jnp.asarray(u, jnp.float32), jnp.asarray(d, jnp.float32), 1.0)
    assert shift.values.dtype == jnp.float32
    np.testing.assert_allclose(shift.dense(), _normal_equation(u, d, 1.0), atol=1e-6)


def test_masked_rows_contribute_nothing():
    u, d, pseudo_u, pseudo_v = _rows(2, _IN, _OUT, _IN, _OUT)
    mask = np.array([True, False, True, True, False, True])
    statistics = RunningMoments.create(_IN + _OUT, dtype=jnp.float64).update(
        jnp.concatenate([u, d], -1)
    )

    @jax.jit
    def shifts(u, d, pseudo_u, pseudo_v, mask):
        return (
            ridge_shift(u, d, 0.5, mask),
            malmen_shift(u, pseudo_u, pseudo_v, 0.1, 0.2, mask),
            mend_shift(pseudo_u, pseudo_v, 0.1, mask),
            ultraedit_shift(statistics, u, d, 0.1, mask),
        )

    rows = [np.asarray(x) for x in (u, d, pseudo_u, pseudo_v)]
    masked = shifts(*map(jnp.asarray, rows), jnp.asarray(mask))
    kept = shifts(*(jnp.asarray(x[mask]) for x in rows), None)
    for a, b in zip(masked, kept, strict=True):
        np.testing.assert_allclose(a.dense(), b.dense(), rtol=1e-9, atol=1e-12)
        assert (np.asarray(a.values)[~mask] == 0).all()


def test_malmen_targets_follow_the_product_of_key_and_pseudo_key():
    u, pseudo_u, pseudo_v = (np.asarray(x) for x in _rows(3, _IN, _IN, _OUT))
    targets = np.stack([-0.3 * (u[j] @ pseudo_u[j]) * pseudo_v[j] for j in range(_N)])
    shift = malmen_shift(*map(jnp.asarray, (u, pseudo_u, pseudo_v)), 0.3, 0.7)
    expected = _normal_equation(u, targets, np.exp(0.7))
    np.testing.assert_allclose(shift.dense(), expected, rtol=1e-9, atol=1e-12)


def test_mend_shift_is_a_gradient_step():
    u, v = _rows(4, _IN, _OUT)
    np.testing.assert_allclose(mend_shift(u, v, 0.2).dense(), -0.2 * u.T @ v, atol=1e-12)


def test_ultraedit_normalizes_the_targets_and_keeps_the_keys():
    u, v = (np.asarray(x) for x in _rows(5, _IN, _OUT))
    rows = np.concatenate([u, v], -1)
    statistics = RunningMoments.create(_IN + _OUT, dtype=jnp.float64).update(jnp.asarray(rows))
    normal = (rows - rows.mean(0)) / rows.std(0, ddof=1)
    targets = -0.2 * (normal[:, :_IN] ** 2).sum(-1, keepdims=True) * normal[:, _IN:]
    shift = ultraedit_shift(statistics, jnp.asarray(u), jnp.asarray(v), 0.2)
    np.testing.assert_allclose(shift.dense(), _normal_equation(u, targets, 1.0), rtol=1e-5)


def test_gradients_agree_with_finite_differences():
    u, pseudo_u, pseudo_v = _rows(6, _IN, _IN, _OUT)
    direction = jnp.asarray(np.random.default_rng(7).normal(size=(_IN, _OUT)))
    mask = jnp.array([True, True, False, True, True, True])

    @jax.jit
    def objective(inputs):
        pseudo_u, pseudo_v, lr, lamda = inputs
        return (malmen_shift(u, pseudo_u, pseudo_v, lr, lamda, mask).dense() * direction).sum()

    inputs = (pseudo_u, pseudo_v, jnp.float64(0.1), jnp.float64(-0.4))
    check_grads(objective, (inputs,), order=1, modes=["fwd", "rev"], rtol=1e-6)


def test_gradient_of_the_ridge_is_malmens_formula():
    u, d, g = (np.asarray(x) for x in _rows(8, _IN, _OUT, _OUT))
    g = np.random.default_rng(9).normal(size=(_IN, _OUT))
    gradient = jax.grad(
        lambda lamda: (
            ridge_shift(jnp.asarray(u), jnp.asarray(d), jnp.exp(lamda)).dense() * g
        ).sum()
    )(jnp.float64(0.3))
    c = np.exp(0.3)
    solved = np.linalg.solve(u.T @ u + c * np.eye(_IN), g)
    np.testing.assert_allclose(gradient, -c * (solved * _normal_equation(u, d, c)).sum(), rtol=1e-9)


def test_a_shift_is_a_low_rank_side_path():
    u, d, x = _rows(10, _IN, _OUT, _IN)
    shift = ridge_shift(u, d, 1.0)
    assert isinstance(shift, LowRankUpdate)
    np.testing.assert_allclose((x @ shift.keys.T) @ shift.values, x @ shift.dense(), atol=1e-12)
