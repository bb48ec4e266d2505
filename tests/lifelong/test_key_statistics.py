"""Second moments of the edited layers' inputs, and what is made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.key_statistics import (
    KeyStatistics,
    add_keys,
    covariance_preconditioner,
    null_space,
    null_space_preconditioner,
)


def covariance(rng, size=12, decades=6):
    """Symmetric, with eigenvalues that fall by so many decades, in random directions."""
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return basis @ np.diag(np.logspace(0, -decades, size)) @ basis.T


def test_moments_are_those_of_a_loop_over_tokens(model, batch):
    found = add_keys(model, model.kernels(), KeyStatistics.empty(model), batch)
    name = "layers/1/mlp/down"
    total, count = np.zeros_like(np.asarray(found.moments[name])), 0
    for part in (batch.edit, batch.rephrase, batch.locality):
        _, seen = apply(model.config, model.params, part.tokens, part.attention, capture=(name,))
        for row, attended in zip(seen[name], part.attention, strict=True):
            for key, counted in zip(row, attended, strict=True):
                if counted:
                    total += np.outer(key, key)
                    count += 1
    np.testing.assert_allclose(found.moments[name], total, rtol=1e-4, atol=1e-5)
    assert float(found.count) == count
    np.testing.assert_allclose(found.covariance(name), total / count, rtol=1e-4, atol=1e-5)


def test_statistics_of_no_token_are_refused(model):
    with pytest.raises(ValueError, match="of no token"):
        KeyStatistics.empty(model).covariance("layers/1/mlp/down")


def test_a_covariance_of_few_tokens_has_no_inverse(model):
    """It may be looked at, and inverted once there are as many tokens as inputs."""
    name = model.modules[0]
    size = model.shapes[name][0]
    few = KeyStatistics({name: jnp.eye(size)}, jnp.float32(size - 1))
    np.testing.assert_allclose(few.covariance(name), np.eye(size) / (size - 1), rtol=1e-6)
    with pytest.raises(ValueError, match=rf"of {size - 1} tokens: .* {name} has no inverse; give"):
        few.covariance(name, invertible=True)
    enough = KeyStatistics({name: jnp.eye(size)}, jnp.float32(size))
    np.testing.assert_allclose(enough.covariance(name, invertible=True), np.eye(size) / size)


def test_the_inverse_of_a_covariance(rng):
    matrix = covariance(rng, decades=3)
    found = covariance_preconditioner(matrix, 7.0)
    jitter = 1e-6 * np.trace(matrix) / len(matrix)
    np.testing.assert_allclose(found @ (7 * (matrix + jitter * np.eye(12))), np.eye(12), atol=1e-9)
    silent = np.diag([1.0, 0.5, 0.0])  # an input that never fires
    assert np.isfinite(covariance_preconditioner(silent, 1.0)).all()
    damped = covariance_preconditioner(matrix, 7.0, 20.0)
    jitter = 1e-6 * np.trace(matrix) / len(matrix)
    expected = np.linalg.inv(7.0 * matrix + (7.0 * jitter + 20.0) * np.eye(len(matrix)))
    np.testing.assert_allclose(damped, expected, rtol=1e-9)


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.999])
def test_the_null_space_holds_what_the_energy_leaves(rng, energy):
    matrix = covariance(rng, decades=3)
    basis = null_space(matrix, energy)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    left = np.trace(basis.T @ matrix @ basis) / np.trace(matrix)
    assert left <= 1 - energy
    values = np.linalg.eigvalsh(matrix)
    # One direction more, the next weakest, would be too much.
    assert left + values[basis.shape[1]] / values.sum() > 1 - energy
    found = null_space_preconditioner(matrix, energy, 10.0)
    projector = 10.0 * found
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-12)


def test_energy_that_protects_everything_is_refused(rng):
    with pytest.raises(ValueError, match=r"protects all 3 directions.*give less than 0\.6666"):
        null_space(np.eye(3), 0.9)


@pytest.mark.slow
def test_reading_is_the_same_in_parts_and_under_jit(model, stream):
    kernels, batches = model.kernels(), [jax.tree.map(lambda x, i=i: x[i], stream) for i in (0, 1)]
    one = KeyStatistics.empty(model)
    for batch in batches:
        one = add_keys(model, kernels, one, batch)
    both = jax.jit(add_keys)(model, kernels, KeyStatistics.empty(model), batches[0])
    both = jax.jit(add_keys)(model, kernels, both, batches[1])
    assert float(one.count) == float(both.count)
    for name, moment in one.moments.items():
        np.testing.assert_allclose(moment, both.moments[name], rtol=1e-4, atol=1e-5)
        assert jnp.linalg.eigvalsh(moment).min() > -1e-3
