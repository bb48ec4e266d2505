"""DAFNet's network against arrays of the public code (``goldens/README.md``), and what its worths
come to where that is known."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.dafnet_network import (
    DAFNetConfig,
    apply_dafnet,
    edit_weights,
    init_dafnet,
    store,
)
from tests.lifelong.golden import dafnet, load, relative_error

CONFIG = DAFNetConfig(
    inner_size=7, mlp_size=9, attention_size=5, score_size=3, edit_lr=0.01
)  # two heads each, as released
SIZE, MODULES = 10, 2
apply = jax.jit(apply_dafnet, static_argnames=("config", "detach"))
keep = jax.jit(store)


def belongs_to(lengths, filled=0):
    """Rows of facts of these lengths, and some of none behind them."""
    facts = np.repeat(np.arange(len(lengths)), lengths)
    facts = np.concatenate([facts, np.full(filled, -1)])
    return jnp.asarray(facts[None] == np.arange(len(lengths))[:, None])


def golden_calls(dtype):
    """``(call, module, arrays, what the network makes of them)`` of all calls, each with a room for
    the facts before that is larger than needed."""
    arrays = load("dafnet")
    network = dafnet(arrays, "theta/", arrays["lr"], dtype)
    memory = [jnp.full((2, 12, SIZE), 1e3, dtype) for _ in range(MODULES)]  # of rooms not yet used
    remembered = 0
    for call in range(3):
        lengths = arrays[f"call/{call}/lengths"]
        real = jnp.ones(len(lengths), bool)
        for module in range(MODULES):
            own = {
                key.removeprefix(f"call/{call}/{module}/"): value
                for key, value in arrays.items()
                if key.startswith(f"call/{call}/{module}/")
            }
            found = apply(
                network, jnp.asarray(own["normalized"].astype(dtype)), belongs_to(lengths), real,
                memory[module], jnp.int32(remembered), module, CONFIG,
            )  # fmt: skip
            memory[module] = keep(
                memory[module], jnp.int32(remembered), found.representations, real
            )
            remembered_now = memory[module][:, : remembered + len(lengths)]
            yield call, module, own, found, remembered_now
        remembered += len(lengths)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(np.float64, 1e-9), pytest.param(np.float32, 1e-5, marks=pytest.mark.slow)],
)
def test_rows_worths_and_representations_are_those_of_the_public_code(dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        for _, _, own, found, remembered in golden_calls(dtype):
            assert relative_error(found.rows, own["x"]) < tolerance
            assert relative_error(found.weights, own["c"]) < tolerance
            assert abs(float(found.retain) - own["p"]) < tolerance
            for layer in range(2):
                assert relative_error(remembered[layer], own[f"reps/{layer}"]) < tolerance


@pytest.mark.slow
def test_the_gradient_is_that_of_the_public_code():
    """Of what the second call adds to the sum of changes, with the first one remembered."""
    arrays = load("dafnet")
    with jax.enable_x64(True):
        network = dafnet(arrays, "theta/", arrays["lr"])
        golden = dafnet(arrays, "call/1/grad/", np.zeros(MODULES))
        lengths = arrays["call/1/lengths"]
        belongs, real = belongs_to(lengths), jnp.ones(len(lengths), bool)

        @jax.jit
        def wanted(network):
            total = 0.0
            for module in range(MODULES):
                past = jnp.stack([arrays[f"call/0/{module}/reps/{b}"] for b in range(2)])
                rows = jnp.asarray(arrays[f"call/1/{module}/normalized"])
                found = apply_dafnet(
                    network, rows, belongs, real, past, jnp.int32(3), module, CONFIG
                )
                share = jnp.repeat(found.weights / lengths, lengths, total_repeat_length=3)
                keys, values = found.rows[:, :6], share[:, None] * found.rows[:, 6:]
                change = network.lr[module] * keys.T @ values
                total += (change * arrays[f"call/1/{module}/wanted"]).sum()
            return total

        found = jax.grad(wanted)(network).layers
        jax.tree.map_with_path(
            lambda path, one, other: np.testing.assert_allclose(
                one, other, rtol=1e-8, atol=1e-11, err_msg=str(path)
            ),
            found,
            golden.layers,
        )
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(found.worth))  # as it was drawn


@pytest.fixture(scope="module")
def drawn():
    """A network, rows of three facts and of none, and facts that came before."""
    keys = jax.random.split(jax.random.key(0), 3)
    network = jax.jit(init_dafnet, static_argnums=(1, 2, 3))(keys[0], SIZE, MODULES, CONFIG)
    rows, past = jax.random.normal(keys[1], (8, SIZE)), jax.random.normal(keys[2], (2, 4, SIZE))
    return network, rows, past


@pytest.mark.slow
def test_what_facts_are_worth_is_learned_if_it_is_not_detached(drawn):
    """Against finite differences; the released network never learns it."""
    network, _, _ = drawn
    belongs, real = belongs_to((2, 1, 3), 2), jnp.array([True, True, True])

    @partial(jax.jit, static_argnums=4)
    def total(worth, network, rows, past, detach):
        changed = network.replace(layers=network.layers.replace(worth=worth))
        found = apply_dafnet(
            changed, rows, belongs, real, past, jnp.int32(4), 0, CONFIG, detach=detach
        )
        return (found.weights * jnp.array([1.0, -2.0, 0.5])).sum() + 3.0 * found.retain

    worth = network.layers.worth
    gradient = jax.grad(total)(worth, *drawn, True)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    with jax.enable_x64(True):
        drawn = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), drawn)
        worth = drawn[0].layers.worth
        gradient = jax.grad(total)(worth, *drawn, False)
        way = jax.tree.map(
            lambda leaf: jnp.asarray(np.cos(np.arange(leaf.size)).reshape(leaf.shape)), worth
        )
        expected = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, way)))
        up, down = (
            total(jax.tree.map(lambda w, d, s=s: w + s * d, worth, way), *drawn, False)
            for s in (1e-5, -1e-5)
        )
        np.testing.assert_allclose((up - down) / 2e-5, expected, rtol=1e-6)
        assert abs(expected) > 1e-3


@pytest.mark.slow
def test_a_fact_that_does_not_count_is_left_out(drawn):
    network, rows, past = drawn
    run = partial(apply, network, config=CONFIG, module=1)
    whole = run(rows, belongs_to((2, 1, 3), 2), jnp.array([True, False, True]), past, jnp.int32(3))
    kept = np.array([0, 1, 3, 4, 5])
    alone = run(rows[kept], belongs_to((2, 3)), jnp.ones(2, bool), past, jnp.int32(3))
    np.testing.assert_allclose(whole.rows[kept], alone.rows, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole.weights[jnp.array([0, 2])], alone.weights, rtol=1e-5)
    assert whole.weights[1] == 0
    np.testing.assert_allclose(whole.retain, alone.retain, rtol=1e-5)
    stored = [keep(past, jnp.int32(3), found.representations, real) for found, real in
              ((whole, jnp.array([True, False, True])), (alone, jnp.ones(2, bool)))]  # fmt: skip
    np.testing.assert_allclose(stored[0], stored[1], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_nothing_that_counts_keeps_everything(drawn):
    network, rows, past = drawn
    found = apply(
        network, rows, belongs_to((2, 1, 3), 2), jnp.zeros(3, bool), past, jnp.int32(2), 0, CONFIG
    )
    assert not np.any(found.weights) and found.retain == 1.0
    assert np.isfinite(found.rows).all()


@pytest.mark.slow
def test_the_first_fact_is_worth_everything(drawn):
    network, rows, _ = drawn
    empty = jnp.zeros((2, 0, SIZE))
    found = apply(
        network, rows[:2], belongs_to((2,)), jnp.ones(1, bool), empty, jnp.int32(0), 0, CONFIG
    )
    assert found.weights[0] == 1.0 and found.retain == 0.0


def test_worths_in_known_cases():
    """One for all leaves the last fact, one by number the mean, and fact after fact is the rule
    ``Δ ← (1 − s) Δ + s·new``."""
    real = jnp.ones(5, bool)
    weights, retain = edit_weights(jnp.ones(5), real)
    np.testing.assert_array_equal(weights, [0, 0, 0, 0, 1])
    assert retain == 0
    weights, retain = edit_weights(1 / jnp.arange(1.0, 6.0), real)
    np.testing.assert_allclose(weights, np.full(5, 0.2), rtol=1e-6)
    assert retain == 0
    weights, retain = edit_weights(1 / jnp.arange(4.0, 9.0), real)  # three facts before
    np.testing.assert_allclose(weights, np.full(5, 1 / 8), rtol=1e-6)
    np.testing.assert_allclose(retain, 3 / 8, rtol=1e-6)
    rng = np.random.default_rng(0)
    own, real = rng.random(5), np.array([True, False, True, True, False])
    total, kept = np.zeros(5), 1.0
    for fact in np.flatnonzero(real):
        total, kept = (1 - own[fact]) * total, (1 - own[fact]) * kept
        total[fact] += own[fact]
    weights, retain = edit_weights(jnp.asarray(own), jnp.asarray(real))
    np.testing.assert_allclose(weights, total, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(retain, kept, rtol=1e-5)


def test_the_latest_facts_are_kept():
    """Against a list of all, in a room of five, calls of up to seven."""
    rng = np.random.default_rng(1)
    memory, count, kept = jnp.zeros((2, 5, 3)), 0, []
    for size in (2, 4, 7, 1, 3):
        new = rng.normal(size=(2, 7, 3)).astype(np.float32)  # of one shape, to compile once
        real = (rng.random(7) < 0.7) & (np.arange(7) < size)
        new = jnp.asarray(new)
        memory = keep(memory, jnp.int32(count), new, jnp.asarray(real))
        count += int(real.sum())
        kept = [*kept, *(new[:, fact] for fact in np.flatnonzero(real))][-5:]
        found = np.asarray(memory)[:, : min(count, 5)]
        expected = np.stack(kept, axis=1)
        order = [np.lexsort(part.reshape(-1, part.shape[-1])[:, ::-1].T)
                 for part in (found[0], expected[0])]  # fmt: skip
        np.testing.assert_array_equal(found[:, order[0]], expected[:, order[1]])
    nothing = jnp.zeros((2, 0, 3))
    assert store(nothing, jnp.int32(0), new, jnp.asarray(real)).shape == (2, 0, 3)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="num_layers=0: give at least 1"):
        DAFNetConfig(num_layers=0)
