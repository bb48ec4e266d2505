"""One set of parameters for layers of any width; actions move with the neurons."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.agents.equivariant import EquivariantPolicy, _entries
from modeledit_jax.edits.parametrization import LowRank

ACTIONS = ("low-rank", "per-weight")
RANK, INPUTS, OUTPUTS, CONTEXT = 2, 3, 4, 5
D, H = 6, 4


def _layer(rng, d, h):
    shapes = {"inputs": (d, INPUTS), "outputs": (h, OUTPUTS), "weights": (d, h), "gradient": (d, h)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _observation(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    context = rng.normal(size=CONTEXT).astype(np.float32)
    layers = tuple(_layer(rng, d, h) for d, h in sizes)
    return jax.tree.map(jnp.asarray, {"layers": layers, "context": context})


@lru_cache
def _untrained(action):
    """A network, what it says of an observation when not compiled, and its first parameters."""
    network = EquivariantPolicy(action, rank=RANK, hidden=7)
    said, params = network.init_with_output(jax.random.key(0), _observation((D, H)))
    return network, said, params


@lru_cache
def _network(action):
    """A network whose parameters are all random, zeros of the start included, and its apply."""
    network, _, params = _untrained(action)
    rng = np.random.default_rng(1)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.4 * rng.normal(size=leaf.shape), jnp.float32), params
    )
    return network, params, jax.jit(network.apply)


def _matrices(action, mean, sizes):
    """The action of every layer: factors as one stack of rows, or the matrix."""
    mean, found, begin = np.asarray(mean), [], 0
    for d, h in sizes:
        size = d * h if action == "per-weight" else RANK * (d + h)
        part = mean[begin : begin + size]
        begin += size
        found.append(part.reshape((d, h) if action == "per-weight" else (d + h, RANK)))
    assert begin == len(mean)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("sizes", [((D, H),), ((3, 9),), ((5, 2), (2, 3))])
def test_the_same_parameters_fit_other_widths_and_more_layers(action, sizes):
    network, params, apply = _network(action)
    observation = _observation(*sizes)
    fresh = jax.eval_shape(network.init, jax.random.key(0), observation)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, params)
    policy = apply(params, observation)
    _matrices(action, policy.mean, sizes)
    if action == "low-rank":
        assert policy.mean.shape == (sum(LowRank(RANK).size(shape) for shape in sizes),)
    assert policy.log_std.shape == policy.mean.shape
    assert np.unique(np.asarray(policy.mean)).size == policy.mean.size
    np.testing.assert_array_equal(policy.log_std, params["params"]["log_std"])


def _permuted(layer, rows, columns):
    return {
        "inputs": layer["inputs"][rows],
        "outputs": layer["outputs"][columns],
        "weights": layer["weights"][rows][:, columns],
        "gradient": layer["gradient"][rows][:, columns],
    }


@pytest.mark.parametrize("action", ACTIONS)
@settings(deadline=None, max_examples=15)
@given(
    rows=st.permutations(range(D)),
    columns=st.permutations(range(H)),
    others=st.permutations(range(3)),
)
def test_the_action_moves_with_the_neurons(action, rows, columns, others):
    """Two layers; the neurons between them are outputs of the one and inputs of the other."""
    _, params, apply = _network(action)
    sizes = ((D, H), (H, 3))
    plain = _observation(*sizes, seed=2)
    orders = [(np.array(rows), np.array(columns)), (np.array(columns), np.array(others))]
    layers = [_permuted(x, *own) for x, own in zip(plain["layers"], orders, strict=True)]
    policy = apply(params, plain)
    moved = apply(params, {**plain, "layers": tuple(layers)})
    before, after = (_matrices(action, p.mean, sizes) for p in (policy, moved))
    for one, other, (left, right) in zip(before, after, orders, strict=True):
        if action == "per-weight":
            expected = one[left][:, right]
        else:  # rows of the first side's factor, then of the second's
            expected = one[np.concatenate([left, len(left) + right])]
        np.testing.assert_allclose(other, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("action", ACTIONS)
def test_every_part_of_the_observation_counts(action):
    """Each changes the action of every layer."""
    _, params, apply = _network(action)
    sizes = ((D, H), (H, 3))
    plain = _observation(*sizes, seed=2)
    policy = apply(params, plain)
    leaves, structure = jax.tree.flatten(plain)
    for index, leaf in enumerate(leaves):
        changed = [*leaves]
        changed[index] = leaf.at[(0,) * leaf.ndim].add(0.5)
        other = apply(params, jax.tree.unflatten(structure, changed))
        for one, two in zip(
            _matrices(action, policy.mean, sizes), _matrices(action, other.mean, sizes), strict=True
        ):
            assert np.abs(one - two).max() > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_a_policy_may_do_without_the_gradient(action):
    observation = _observation((D, H))
    network = EquivariantPolicy(action, rank=RANK, hidden=7, gradient=False)
    params = jax.jit(network.init)(jax.random.key(0), observation)
    (layer,) = observation["layers"]
    other = {**observation, "layers": ({**layer, "gradient": -layer["gradient"]},)}
    one, two = (jax.jit(network.apply)(params, seen).mean for seen in (observation, other))
    np.testing.assert_array_equal(one, two)
    _, all_params, _ = _network(action)
    sizes = [sum(x.size for x in jax.tree.leaves(p)) for p in (params, all_params)]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("action", ACTIONS)
def test_side_by_side_it_does_what_it_does_alone(action):
    network, params, apply = _network(action)
    seen = [_observation((D, H), (H, 3), seed=seed) for seed in range(3)]
    alone = [apply(params, one) for one in seen]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *seen)
    many = jax.jit(jax.vmap(network.apply, (None, 0)))(params, together)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), many, stacked)


@pytest.mark.parametrize("action", ACTIONS)
def test_untrained_actions_are_small(action):
    _, policy, params = _untrained(action)
    assert 0.02 < np.asarray(policy.mean).std() < 1.0
    np.testing.assert_array_equal(policy.log_std, 0.0)
    compiled = _network(action)[2](params, _observation((D, H)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), policy, compiled
    )


def test_what_a_single_weight_sees():
    """Products of factors, signed, and as shares of the weight; nothing beyond the bound."""
    rng = np.random.default_rng(4)
    left, right = rng.normal(size=(D, RANK)), rng.normal(size=(H, RANK))
    weight, gradient = rng.normal(size=(2, D, H))
    weight[0, 0], weight[1, 1] = 0.001, -0.001  # as if they were 0.05 in size
    seen = jax.jit(_entries)(*jax.tree.map(jnp.float32, ([weight, gradient], left, right)))
    products = left[:, None] * right[None]
    size = np.maximum(np.abs(weight), 0.05)
    expected = [products, products * np.sign(weight)[..., None]]
    expected += [products / (np.sign(weight) * size)[..., None]]
    expected += [weight[..., None], gradient[..., None]]
    expected = np.clip(np.concatenate(expected, axis=-1), -3, 3)
    np.testing.assert_allclose(seen, expected, rtol=1e-4, atol=1e-5)
    assert (np.abs(expected) == 3).any() and (np.abs(expected) < 3).mean() > 0.8
