import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.low_rank import malmen_shift, mend_shift
from modeledit_jax.lifelong.methods.hypernetwork import (
    HypernetworkConfig,
    apply_hypernetwork,
    clamp,
    group_modules,
    init_hypernetworks,
    init_statistics,
    mend_config,
    nonzero_rows,
    update_statistics,
)
from modeledit_jax.lifelong.methods.normalization import MEND_EPSILON, RunningMoments
from tests.lifelong.golden import hypernetwork, load, moments, relative_error

_CONFIG = HypernetworkConfig(rank=8, num_blocks=2, edit_lr=0.01)


def _groups(arrays):
    """Modules by group, and their shapes, in the order of the public code."""
    names = [str(name) for name in arrays["modules"]]
    shapes = {n: (arrays[f"u/{n}"].shape[1], arrays[f"v/{n}"].shape[1]) for n in names}
    return group_modules(shapes), shapes


def _stack(arrays, what, modules, dtype):
    return jnp.asarray(np.stack([arrays[f"{what}/{m}"] for m in modules]).astype(dtype))


def _group_shifts(kind, network, statistics, u, v):
    """The shifts ``[m, d_in, d_out]`` of all modules of a group."""

    def one(u, v, index):
        pseudo = apply_hypernetwork(network, statistics, u, v, index, _CONFIG)
        if kind == "malmen":
            return malmen_shift(u, *pseudo, network.lr[index], network.lamda[index]).dense()
        return mend_shift(*pseudo, network.lr[index]).dense()

    return jax.vmap(one)(u, v, jnp.arange(len(u)))


def _errors(kind, arrays, group, modules, dtype):
    """Relative errors of shift and meta-gradient of one group, by name."""
    network = hypernetwork(arrays, f"theta/{group}/", dtype)
    statistics = moments(arrays, f"statistics/{group}/", dtype)
    u, v, weight_grads = (_stack(arrays, x, modules, dtype) for x in ("u", "v", "weight_grad"))

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def meta_gradient(network):
        shifts = _group_shifts(kind, network, statistics, u, v)
        return (shifts * weight_grads).sum(), shifts

    value, shifts = meta_gradient(network)
    golden = hypernetwork(arrays, f"grad/{group}/")
    errors = {
        name: relative_error(getattr(value.blocks, name), getattr(golden.blocks, name))
        for name in ("down", "up", "bias", "scale", "shift")
    }
    errors["lr"] = relative_error(value.lr, golden.lr)
    if kind == "malmen":
        errors["lamda"] = relative_error(value.lamda, golden.lamda)
    return relative_error(shifts, _stack(arrays, "shift", modules, np.float64)), errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "double"),
    [("malmen", False), ("malmen_init", True), ("mend_rledit", False)],
)
def test_shift_and_meta_gradient_are_those_of_the_public_code(file, double):
    arrays = load(file)
    kind = "mend" if file == "mend_rledit" else "malmen"
    with jax.enable_x64(double):
        for group, modules in _groups(arrays)[0].items():
            dtype = np.float64 if double else np.float32
            shift, gradient = _errors(kind, arrays, group, modules, dtype)
            print(
                f"{file} {group} {dtype.__name__}: shift {shift:.1e}, meta-gradient "
                f"{max(gradient.values()):.1e}"
            )
            assert shift <= 1e-5
            assert max(gradient.values()) <= 1e-4, gradient


def test_pseudo_gradients_are_those_of_the_public_code():
    arrays = load("malmen")
    with jax.enable_x64(True):
        for group, modules in _groups(arrays)[0].items():
            u, v = (_stack(arrays, x, modules[-1:], np.float64)[0] for x in "uv")
            pseudo = apply_hypernetwork(
                hypernetwork(arrays, f"theta/{group}/"),
                moments(arrays, f"statistics/{group}/"),
                u,
                v,
                len(modules) - 1,
                _CONFIG,
            )
            for value, name in zip(pseudo, ("pseudo_u", "pseudo_v"), strict=True):
                assert relative_error(value, arrays[f"{name}/{modules[-1]}"]) < 1e-7


@pytest.mark.slow
def test_statistics_of_the_public_code_come_from_one_minibatch_after_the_other():
    arrays = load("malmen")
    groups, shapes = _groups(arrays)
    with jax.enable_x64(True):
        statistics = init_statistics(shapes, released=True, dtype=np.float64)
        start = 0
        for rows in arrays["rows"]:
            u, v = (
                {m: jnp.asarray(arrays[f"{x}/{m}"][start : start + rows]) for m in shapes}
                for x in "uv"
            )
            statistics = update_statistics(statistics, groups, u, v)
            start += rows
        for group, value in statistics.items():
            golden = moments(arrays, f"statistics/{group}/")
            np.testing.assert_allclose(value.mean, golden.mean, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(value.squares, golden.squares, rtol=1e-9)
            assert value.count == golden.count


@pytest.mark.parametrize("config", [_CONFIG, pytest.param(mend_config(), marks=pytest.mark.slow)])
def test_a_fresh_network_returns_its_normalized_input_and_learns(config):
    shapes = {"a": (3, 4), "b": (3, 4), "c": (4, 3)}
    networks = init_hypernetworks(jax.random.key(0), shapes, config)
    statistics = init_statistics(shapes)
    assert set(networks) == set(statistics) == {"3x4", "4x3"}
    assert networks["3x4"].lr.shape == (2,)
    assert networks["3x4"].blocks.down.shape == (2, 7, 7)
    u, v = jax.random.normal(jax.random.key(1), (5, 3)), jnp.ones((5, 4))

    def total(network):
        pseudo = apply_hypernetwork(network, statistics["3x4"], u, v, 1, config)
        return pseudo[0].sum() + (pseudo[1] ** 2).sum(), pseudo

    gradient, (pseudo_u, pseudo_v) = jax.jit(jax.grad(total, has_aux=True))(networks["3x4"])
    np.testing.assert_allclose(pseudo_u, u, rtol=1e-5)
    np.testing.assert_allclose(pseudo_v, v, rtol=1e-5)
    assert (np.abs(gradient.blocks.up).max(axis=(1, 2)) > 0).all()
    assert (gradient.blocks.shift[:, 0] == 0).all(), "another module's embedding"
    assert (gradient.blocks.shift[:, 1] != 0).any()


def test_clamp_passes_the_gradient_at_zero():
    x = jnp.array([-1.0, 0.0, 2.0])
    np.testing.assert_array_equal(clamp(x), [0, 0, 2])
    np.testing.assert_array_equal(jax.grad(lambda x: clamp(x).sum())(x), [0, 1, 1])


def test_mend_scales_before_and_malmen_after_the_clamp():
    shapes = {"a": (2, 2)}
    outputs = []
    for scale_first in (True, False):
        config = HypernetworkConfig(rank=2, num_blocks=1, scale_first=scale_first)
        network = init_hypernetworks(jax.random.key(0), shapes, config)["2x2"]
        blocks = network.blocks.replace(bias=jnp.full((1, 4), 2.0), scale=jnp.full((1, 1, 4), -1.0))
        rows = apply_hypernetwork(
            network.replace(blocks=blocks),
            init_statistics(shapes)["2x2"],
            jnp.zeros((1, 2)),
            jnp.zeros((1, 2)),
            0,
            config,
        )
        outputs.append(np.concatenate(rows, -1))
    np.testing.assert_allclose(outputs[0], 0)
    np.testing.assert_allclose(outputs[1], -2)


def test_rows_that_mend_drops():
    u = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    v = jnp.array([[0.0, 2.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(nonzero_rows(u, v), [True, False, False])


def test_modules_are_grouped_by_shape_in_their_order():
    shapes = {"gate/2": (2, 3), "down": (3, 2), "gate/1": (2, 3)}
    assert group_modules(shapes) == {"2x3": ("gate/2", "gate/1"), "3x2": ("down",)}


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        HypernetworkConfig(num_blocks=0)


@pytest.mark.parametrize("parts", [("",), ("u_", "v_")])
def test_gradient_transform_is_that_of_mend(parts):
    arrays = load("mend" if parts == ("",) else "mend_separate")
    config = HypernetworkConfig(rank=5, num_blocks=2, scale_first=True)
    with jax.enable_x64(True):
        arrays |= {f"theta/{p}{x}": np.zeros(2) for p in parts for x in ("lr", "lamda")}
        networks = {
            p: hypernetwork(
                {k.replace(f"theta/{p}", f"{p}/"): v for k, v in arrays.items()}, f"{p}/"
            )
            for p in parts
        }
        whole = RunningMoments.create(10, epsilon=MEND_EPSILON, dtype=np.float64)
        apply = jax.jit(apply_hypernetwork, static_argnames="config")
        for call in range(3):
            u, v, module, pseudo_u, pseudo_v = (
                jnp.asarray(arrays[f"call/{call}/{x}"])
                for x in ("u", "v", "module", "pseudo_u", "pseudo_v")
            )
            keep = nonzero_rows(u, v)
            whole = whole.update(jnp.concatenate([u, v], -1), keep)
            golden = [
                np.concatenate([arrays[f"call/{call}/{x}_{what}"] for x in "uv"])
                for what in ("mean", "squares", "std")
            ]
            for value, other in zip((whole.mean, whole.squares, whole.std), golden, strict=True):
                np.testing.assert_allclose(value, other, rtol=1e-9)
            if parts == ("",):
                outputs = apply(networks[""], whole, u, v, module, config)
            else:  # a network of one kind of rows has the other with no coordinates
                empty = jnp.zeros((len(u), 0))
                halves = [
                    whole.replace(mean=whole.mean[s], squares=whole.squares[s])
                    for s in (slice(6), slice(6, None))
                ]
                outputs = (
                    apply(networks["u_"], halves[0], u, empty, module, config)[0],
                    apply(networks["v_"], halves[1], v, empty, module, config)[0],
                )
            for value, other in zip(outputs, (pseudo_u, pseudo_v), strict=True):
                assert relative_error(value[keep], other) < 1e-6
