"""Shares of layers against joint least squares and against MEMIT's division, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.layer_sharing import BatchTarget, share
from modeledit_jax.lifelong.model import dense_change

NAMES = ("low", "middle", "top")
FACTS, WIDTH = 4, 6
SIZES = {"low": 9, "middle": 11, "top": 10}


@pytest.fixture
def layers(rng):
    """A network in which the outputs of layers simply add up: keys, H and what is wanted."""
    keys = {name: rng.normal(size=(FACTS, 1, size)) for name, size in SIZES.items()}
    roots = {name: rng.normal(size=(size, size)) / size for name, size in SIZES.items()}
    return keys, {name: root @ root.T for name, root in roots.items()}, rng.normal(size=(4, WIDTH))


def found(layers, real=(True,) * FACTS, names=NAMES, mask=None, **how):
    """Of `share`, in float64: dense changes and H after the batch."""
    with jax.enable_x64(True):
        keys, preconditioners, wanted = jax.tree.map(jnp.asarray, layers)

        def rest(changes):
            done = [keys[name][:, 0] @ dense_change(hook) for name, hook in changes.items()]
            return wanted - sum(done, jnp.zeros_like(wanted))

        target = BatchTarget(
            tuple(names),
            rest,
            lambda _, asked: tuple(keys[name] for name in asked),
            jnp.ones(1),
            jnp.asarray(real),
        )
        changes, after = share(
            target,
            {name: preconditioners[name] for name in names},
            0.5,
            mask=None if mask is None else jnp.asarray(mask, jnp.float64),
            **how,
        )
        dense = {name: np.asarray(dense_change(hook)) for name, hook in changes.items()}
        return dense, jax.tree.map(np.asarray, after)


def joint(layers, names=NAMES, rows=slice(None)):
    """All Δ side by side as one ridge regression on whitened keys of all layers."""
    keys, preconditioners, wanted = layers
    roots = {name: np.linalg.cholesky(preconditioners[name]) for name in names}
    white = np.concatenate([keys[name][rows, 0] @ roots[name] for name in names], axis=1)
    left = white.T @ white + 0.5 * np.eye(white.shape[1])
    solution = np.linalg.solve(left, white.T @ wanted[rows])
    ends = np.cumsum([SIZES[name] for name in names])[:-1]
    parts = np.split(solution, ends)
    return {name: roots[name] @ part for name, part in zip(names, parts, strict=True)}


def cost(layers, changes):
    """What `share` is to minimize, ridge 1/2."""
    keys, preconditioners, wanted = layers
    said = sum(keys[name][:, 0] @ change for name, change in changes.items())
    return ((said - wanted) ** 2).sum() + 0.5 * sum(
        np.trace(change.T @ np.linalg.solve(preconditioners[name], change))
        for name, change in changes.items()
    )


def test_the_lowest_layer_does_its_part_of_the_joint_solution(layers):
    changes, _ = found(layers, evenly=False)
    np.testing.assert_allclose(changes["low"], joint(layers)["low"], rtol=1e-7, atol=1e-10)


def test_the_layers_left_share_what_is_left(layers):
    """With the rest as it is after the lowest layer, the next does its part of the joint solution
    of the layers above."""
    changes, _ = found(layers, evenly=False)
    keys, preconditioners, wanted = layers
    for name in ("low", "middle"):
        wanted = wanted - keys[name][:, 0] @ changes[name]
        above = NAMES[NAMES.index(name) + 1 :]
        expected = joint((keys, preconditioners, wanted), above)[above[0]]
        np.testing.assert_allclose(changes[above[0]], expected, rtol=1e-7, atol=1e-10)


def test_no_other_division_costs_less(layers, rng):
    best = joint(layers)
    even, _ = found(layers, evenly=True)
    assert cost(layers, best) < cost(layers, even)
    for _ in range(3):
        moved = {
            name: change + 1e-2 * rng.normal(size=change.shape) for name, change in best.items()
        }
        assert cost(layers, best) < cost(layers, moved)


def test_evenly_each_layer_does_its_share_of_the_rest(layers):
    """MEMIT's loop with d × d solves."""
    keys, preconditioners, wanted = layers
    changes, _ = found(layers, evenly=True)
    for index, name in enumerate(NAMES):
        own = keys[name][:, 0]
        left = np.linalg.inv(preconditioners[name]) + own.T @ own / 0.5
        expected = np.linalg.solve(left, own.T @ wanted / (0.5 * (3 - index)))
        np.testing.assert_allclose(changes[name], expected, rtol=1e-6, atol=1e-9)
        wanted = wanted - own @ changes[name]


@pytest.mark.parametrize("evenly", [True, False])
def test_facts_that_do_not_count_change_nothing(layers, evenly):
    keys, preconditioners, wanted = layers
    real = np.array([True, False, True, True])
    changes, after = found(layers, real, evenly=evenly, remembers=True)
    fewer = {name: rows[real] for name, rows in keys.items()}, preconditioners, wanted[real]
    expected, remembered = found(fewer, (True,) * 3, evenly=evenly, remembers=True)
    for name in NAMES:
        np.testing.assert_allclose(changes[name], expected[name], rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(after[name], remembered[name], rtol=1e-7, atol=1e-10)


def test_one_layer_does_all_in_either_way(layers):
    both = [found(layers, names=("top",), evenly=evenly)[0]["top"] for evenly in (True, False)]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-12)
    np.testing.assert_allclose(both[0], joint(layers, ("top",))["top"], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("evenly", [True, False])
def test_every_layer_remembers_its_keys(layers, evenly):
    keys, preconditioners, _ = layers
    _, after = found(layers, evenly=evenly, remembers=True)
    for name in NAMES:
        own = keys[name][:, 0]
        expected = np.linalg.inv(np.linalg.inv(preconditioners[name]) + own.T @ own / 0.5)
        np.testing.assert_allclose(after[name], expected, rtol=1e-6, atol=1e-9)
    _, same = found(layers, evenly=evenly)
    for name in NAMES:
        np.testing.assert_array_equal(same[name], preconditioners[name])


@pytest.mark.parametrize("evenly", [True, False])
@pytest.mark.parametrize("chosen", [NAMES, ("low", "top"), ("middle", "top"), ("middle",)])
def test_masked_layers_share_as_if_the_others_were_not_there(layers, evenly, chosen):
    mask = [float(name in chosen) for name in NAMES]
    changes, _ = found(layers, mask=mask, evenly=evenly)
    expected, _ = found(layers, names=chosen, evenly=evenly)
    for name in NAMES:
        if name in chosen:
            np.testing.assert_allclose(changes[name], expected[name], rtol=1e-10, atol=1e-14)
        else:
            assert not changes[name].any()


@pytest.mark.parametrize("evenly", [True, False])
def test_no_layer_may_change(layers, evenly):
    changes, _ = found(layers, mask=[0.0] * 3, evenly=evenly)
    assert all(not change.any() and np.isfinite(change).all() for change in changes.values())


@pytest.mark.parametrize("evenly", [True, False])
def test_a_layer_left_out_spares_the_batch_later(layers, rng, evenly):
    """The lowest layer takes the first batch, the next one the second: its change is the one that
    minimizes the cost of both batches together, what the other layer did to the first included."""
    keys, preconditioners, wanted = layers
    _, after = found(layers, mask=[1, 0, 0], evenly=evenly, remembers=True)
    other = {name: rng.normal(size=rows.shape) for name, rows in keys.items()}
    asked = rng.normal(size=wanted.shape)
    changes, _ = found((other, after, asked), mask=[0, 1, 0], evenly=evenly, remembers=True)
    first, second = keys["middle"][:, 0], other["middle"][:, 0]

    # ‖K₂Δ − R₂‖² + ‖K₁Δ‖² + c tr(Δᵀ H⁻¹ Δ), whose second part is what Δ does to the first batch.
    left = first.T @ first + second.T @ second + 0.5 * np.linalg.inv(preconditioners["middle"])
    expected = np.linalg.solve(left, second.T @ asked)
    np.testing.assert_allclose(changes["middle"], expected, rtol=1e-6, atol=1e-9)
    forgetful, _ = found((other, preconditioners, asked), mask=[0, 1, 0], evenly=evenly)
    moved, moved_without = (
        np.linalg.norm(first @ change["middle"]) for change in (changes, forgetful)
    )
    assert moved < 0.9 * moved_without
