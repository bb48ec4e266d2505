"""Shares of layers against joint least squares and against MEMIT's division, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.layer_sharing import share

NAMES = ("low", "middle", "top")
FACTS, WIDTH = 4, 6
SIZES = {"low": 9, "middle": 11, "top": 10}


@pytest.fixture
def layers(rng):
    """A network in which the outputs of layers simply add up: keys, H and what is wanted."""
    keys = {name: rng.normal(size=(FACTS, 1, size)) for name, size in SIZES.items()}
    roots = {name: rng.normal(size=(size, size)) / size for name, size in SIZES.items()}
    return keys, {name: root @ root.T for name, root in roots.items()}, rng.normal(size=(4, WIDTH))


def found(layers, real=(True,) * FACTS, names=NAMES, **how):
    """Of `share`, in float64: dense changes and H after the batch."""
    with jax.enable_x64(True):
        keys, preconditioners, wanted = jax.tree.map(jnp.asarray, layers)

        def rest(changes):
            done = [keys[name][:, 0] @ hook.keys.T @ hook.values for name, hook in changes.items()]
            return wanted - sum(done, jnp.zeros_like(wanted))

        changes, after = share(
            names,
            {name: preconditioners[name] for name in names},
            rest,
            lambda _, asked: tuple(keys[name] for name in asked),
            jnp.ones(1),
            0.5,
            jnp.asarray(real),
            **how,
        )
        dense = {name: np.asarray(hook.keys.T @ hook.values) for name, hook in changes.items()}
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
