"""The decoder: hooks, captures, scan and padding. Parity with other code: test_pretrained.py."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.layer import normalize
from modeledit_jax.language.model import (
    apply,
    init_params,
    module_names,
    stack_layers,
    tiny_llama,
)
from modeledit_jax.language.parameters import parameter_shapes
from tests.language.tiny_models import CONFIGS, GEMMA, LLAMA, VOCAB, random_params, random_tokens

forward = jax.jit(apply, static_argnames=("config", "capture"))
COMPILED_AS_FOR_USERS = {
    "xla_backend_optimization_level": 3,
    "xla_cpu_use_fusion_emitters": True,
}
TOKENS, ATTENTION = random_tokens()


# The other families agree with `transformers` in huggingface/test_checkpoint.py.
FAMILIES = ["llama", *(pytest.param(n, marks=pytest.mark.slow) for n in CONFIGS if n != "llama")]


@pytest.fixture(params=FAMILIES)
def model(request):
    config = CONFIGS[request.param]
    return config, random_params(config)


def sizes(config):
    """``(d_in, d_out)`` of every hookable module."""
    shapes = parameter_shapes(config)
    return {name: shapes[f"{name}/kernel"] for name in module_names(config, "*")}


def zero_taps(config, names):
    return {name: Hook(tap=jnp.zeros((*TOKENS.shape, sizes(config)[name][1]))) for name in names}


def random_hooks(config, names, rank=2):
    hooks = {}
    for index, name in enumerate(names):
        d_in, d_out = sizes(config)[name]
        first, second = jax.random.split(jax.random.key(index))
        hooks[name] = Hook(
            keys=jax.random.normal(first, (rank, d_in)),
            values=0.3 * jax.random.normal(second, (rank, d_out)),
            mask=jnp.float32(0.5),
        )
    return hooks


def test_every_module_has_the_leaf_of_its_name(model):
    config, params = model
    flat = flatten_dict(params, sep="/")
    kernels = {path.removesuffix("/kernel") for path in flat if path.endswith("/kernel")}
    assert set(module_names(config, "*")) == kernels


@pytest.mark.slow
def test_editing_through_the_side_path_equals_editing_the_weights(model):
    config, params = model
    hooks = random_hooks(config, module_names(config, "*"))
    flat = flatten_dict(params, sep="/")
    for name, hook in hooks.items():
        flat[f"{name}/kernel"] += 0.5 * hook.keys.T @ hook.values
    edited, _ = forward(config, unflatten_dict(flat, sep="/"), TOKENS, ATTENTION)
    hooked, _ = forward(config, params, TOKENS, ATTENTION, hooks)
    original, _ = forward(config, params, TOKENS, ATTENTION)
    np.testing.assert_allclose(hooked, edited, atol=2e-4)
    assert np.abs(hooked - original).max() > 0.1


def test_captures_and_taps_make_the_gradients_of_the_kernels(model):
    config, params = model
    names = module_names(config, "*")

    def loss(params, hooks):
        logits, inputs = apply(config, params, TOKENS, ATTENTION, hooks, names)
        return jnp.mean(jax.nn.log_softmax(logits)[..., 3] * ATTENTION), inputs

    (dparams, gradients), inputs = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(
        params, zero_taps(config, names)
    )
    flat = flatten_dict(dparams, sep="/")
    for name in names:
        product = jnp.einsum("nli,nlo->io", inputs[name], gradients[name].tap)
        np.testing.assert_allclose(product, flat[f"{name}/kernel"], atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_the_gradient_of_a_tap_is_the_finite_difference():
    config, params, name = LLAMA, random_params(LLAMA), "layers/1/mlp/down"
    direction = jax.random.normal(jax.random.key(3), (*TOKENS.shape, config.width))

    @jax.jit
    def loss(tap):
        logits, _ = apply(config, params, TOKENS, ATTENTION, {name: Hook(tap=tap)})
        return jnp.mean(jnp.sin(logits))

    step = 1e-2
    difference = (loss(step * direction) - loss(-step * direction)) / (2 * step)
    slope = jnp.vdot(jax.grad(loss)(jnp.zeros_like(direction)), direction)
    np.testing.assert_allclose(slope, difference, rtol=1e-2)


@pytest.mark.slow
def test_zero_hooks_change_no_bit(model):
    config, params = model
    hooks = zero_taps(config, module_names(config, "layers/*"))
    # Two programs: their bits are equal where XLA compiles as it does for users.
    forward = jax.jit(
        apply, static_argnames=("config", "capture"), compiler_options=COMPILED_AS_FOR_USERS
    )
    plain, _ = forward(config, params, TOKENS, ATTENTION)
    hooked, _ = forward(config, params, TOKENS, ATTENTION, hooks)
    np.testing.assert_array_equal(hooked, plain)


@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
def test_scanned_layers_equal_the_loop(model, remat):
    config, params = model
    scanned = dataclasses.replace(config, scan_layers=True, remat=remat)
    stacked = stack_layers(params)
    names = module_names(config, ["layers/1/mlp/down", "layers/2/attention/*"])
    hooks = random_hooks(config, names)
    for some, capture in (({}, ()), (hooks, names)):
        loop, inputs = forward(config, params, TOKENS, ATTENTION, some, capture)
        scan, same = forward(scanned, stacked, TOKENS, ATTENTION, some, capture)
        np.testing.assert_allclose(scan, loop, atol=1e-4)
        assert set(same) == set(capture)
        jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), same, inputs)


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_remat_changes_no_gradient(scan):
    params = random_params(GEMMA)

    def gradient(remat):
        config = dataclasses.replace(GEMMA, scan_layers=scan, remat=remat)
        own = stack_layers(params) if scan else params
        return jax.jit(jax.grad(lambda p: jnp.mean(apply(config, p, TOKENS)[0] ** 2)))(own)

    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), gradient(True), gradient(False))


def test_padding_and_the_future_are_invisible(model):
    config, params = model
    plain, _ = forward(config, params, TOKENS, ATTENTION)
    changed, _ = forward(config, params, jnp.where(ATTENTION, TOKENS, 1), ATTENTION)
    np.testing.assert_array_equal(plain[ATTENTION], changed[ATTENTION])
    later, _ = forward(config, params, TOKENS.at[:, 6:].set(2), ATTENTION)
    np.testing.assert_allclose(later[:, :6], plain[:, :6], atol=1e-5)


@pytest.mark.slow
def test_default_initial_values():
    config = tiny_llama(1000)
    params = init_params(config, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert 1e6 < size < 8e6
    logits, _ = forward(config, params, TOKENS)
    assert logits.shape == (*TOKENS.shape, 1000) and logits.dtype == jnp.float32
    assert np.abs(logits).max() < 3.0
    scanned = init_params(dataclasses.replace(config, scan_layers=True), jax.random.key(0))
    chex.assert_trees_all_equal(scanned, stack_layers(params))


@pytest.mark.slow
def test_bfloat16_is_close_and_its_logits_are_float32(model):
    config, params = model
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), params)
    exact, _ = forward(config, params, TOKENS)
    logits, _ = forward(config, half, TOKENS)
    assert logits.dtype == jnp.float32
    assert np.abs(logits - exact).mean() < 0.05 * np.abs(exact).max()


@pytest.mark.slow
def test_the_head_has_a_hook_too():
    params, delta = random_params(LLAMA), jnp.full((LLAMA.width, VOCAB), 0.1)
    plain, captured = forward(LLAMA, params, TOKENS, capture=("head",))
    logits, _ = forward(LLAMA, params, TOKENS, hooks={"head": Hook(delta=delta)})
    np.testing.assert_allclose(logits, plain + captured["head"] @ delta, atol=1e-4)


@pytest.mark.slow
def test_bad_input_is_named():
    params = random_params(LLAMA)
    with pytest.raises(ValueError, match=r"20 tokens do not fit the context of 16"):
        apply(LLAMA, params, jnp.zeros((1, 20), jnp.int32))
    with pytest.raises(ValueError, match=r"no module named layers/7/mlp/down; the modules are"):
        apply(LLAMA, params, TOKENS, hooks={"layers/7/mlp/down": Hook()})
    with pytest.raises(ValueError, match="no module named fc2"):
        apply(LLAMA, params, TOKENS, capture=("fc2",))
    with pytest.raises(ValueError, match=r"pass unstack_layers\(params\)"):
        apply(LLAMA, stack_layers(params), TOKENS)
    with pytest.raises(ValueError, match=r"pass stack_layers\(params\)"):
        apply(dataclasses.replace(LLAMA, scan_layers=True), params, TOKENS)
    outside, _ = forward(LLAMA, params, jnp.full(TOKENS.shape, VOCAB), ATTENTION)
    assert np.isnan(outside).all()


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_pass_may_start_above_and_end_where_answers_are(scan):
    config, params = dataclasses.replace(LLAMA, scan_layers=scan), random_params(LLAMA)
    params = stack_layers(params) if scan else params
    whole, seen = forward(config, params, TOKENS, ATTENTION, capture=("layers/0", "layers/1"))
    positions = jnp.tile(jnp.array([[2, 0, 2]]), (len(TOKENS), 1))

    @jax.jit
    def above(hidden):
        name = ("layers/1",)
        return apply(
            config, params, TOKENS, ATTENTION, None, name, start=(1, hidden), positions=positions
        )

    logits, again = above(seen["layers/0"])
    np.testing.assert_allclose(again["layers/1"], seen["layers/1"], rtol=1e-5, atol=1e-5)
    picked = jnp.take_along_axis(whole, positions[..., None], axis=1)
    np.testing.assert_allclose(logits, picked, rtol=1e-4, atol=1e-4)
    last = f"layers/{config.num_layers - 1}"
    _, seen = forward(config, params, TOKENS, ATTENTION, capture=(last, "head"))
    normal = normalize(config, params["final_norm"], seen[last])
    np.testing.assert_allclose(normal, seen["head"], rtol=1e-5, atol=1e-5)


def test_hooks_below_the_start_are_refused():
    hidden = jnp.zeros((*TOKENS.shape, LLAMA.width))
    hooks = {"layers/0/mlp/down": Hook(tap=jnp.zeros(LLAMA.width))}
    with pytest.raises(ValueError, match="starts at layer 1, above layers/0/mlp/down"):
        apply(LLAMA, random_params(LLAMA), TOKENS, hooks=hooks, start=(1, hidden))
    with pytest.raises(ValueError, match="no module named layers/9"):
        apply(LLAMA, random_params(LLAMA), TOKENS, capture=("layers/9",))
