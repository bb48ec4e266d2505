import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.hypernetwork import group_modules, init_statistics
from modeledit_jax.lifelong.methods.linear import Linear
from modeledit_jax.lifelong.methods.router import (
    Encoder,
    Router,
    RouterConfig,
    apply_router,
    encode_modules,
    init_router,
)
from modeledit_jax.lifelong.methods.subset_policy import straight_through
from tests.lifelong.golden import load, moments, relative_error, section

_SHAPES = {"a": (2, 3), "b": (3, 2), "c": (2, 3)}


def _golden_router(arrays, prefix, dtype):
    def get(key):
        return jnp.asarray(arrays[prefix + key].astype(dtype))

    def linear(key):
        return Linear(get(f"{key}/kernel"), get(f"{key}/bias"))

    encoders = {
        group: Encoder(linear(group), get(f"{group}/scale"), get(f"{group}/offset"))
        for group in ("6x8", "8x6")
    }
    return Router(encoders, linear("gate"))


def _golden_inputs(arrays, dtype):
    names = [str(name) for name in arrays["modules"]]
    keys, values = ({m: jnp.asarray(arrays[f"{x}/{m}"].astype(dtype)) for m in names} for x in "uv")
    shapes = {m: (keys[m].shape[1], values[m].shape[1]) for m in names}
    statistics = {g: moments(arrays, f"statistics/{g}/", dtype) for g in group_modules(shapes)}
    return shapes, statistics, keys, values


@pytest.mark.parametrize(("run", "quirks"), [("released", True), ("normalized", False)])
def test_scores_mask_and_gradient_are_those_of_the_public_code(run, quirks):
    arrays = load("router")
    golden = section(arrays, f"{run}/")
    k, config = int(arrays["selected"]), RouterConfig(hidden_size=7, released_quirks=quirks)
    with jax.enable_x64(True):
        inputs = _golden_inputs(arrays, np.float64)
        router = _golden_router(arrays, "theta/", np.float64)

        @jax.jit
        def run_router(router):
            def objective(router):
                scores = apply_router(router, *inputs, config).modules
                mask = straight_through(scores, k)
                return (mask * jnp.arange(1.0, 6.0)).sum(), (scores, mask)

            codes = encode_modules(router, *inputs, config)
            return codes, *jax.grad(objective, has_aux=True)(router)

        codes, gradient, (scores, mask) = run_router(router)
        encoded = [golden[f"encoded/{m}"] for m in inputs[0]]
        errors = {
            "codes": relative_error(codes, np.concatenate(encoded, -1)),
            "scores": relative_error(scores, golden["logits"]),
            "mask": np.abs(mask - golden["mask"]).max(),
        }
        expected = _golden_router(golden, "grad/", np.float64)
        for (path, value), other in zip(
            jax.tree.leaves_with_path(gradient), jax.tree.leaves(expected), strict=True
        ):
            errors[jax.tree_util.keystr(path)] = relative_error(value, other)
    print(f"{run}: {max(errors.values()):.1e}")
    assert max(errors.values()) <= 1e-6, errors


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    keys, values = (
        {
            m: jnp.asarray(rng.normal(size=(5, shape[i])), jnp.float32)
            for m, shape in _SHAPES.items()
        }
        for i in range(2)
    )
    return init_statistics(_SHAPES), keys, values


def test_masked_tokens_do_not_count(batch):
    config = RouterConfig(hidden_size=4)
    router = init_router(jax.random.key(0), _SHAPES, config)
    statistics, keys, values = batch

    @jax.jit
    def scores(keys, values, mask):
        return apply_router(router, _SHAPES, statistics, keys, values, config, mask).modules

    mask = np.array([True, False, True, True, False])
    masked = scores(keys, values, jnp.asarray(mask))
    kept = [{m: jnp.asarray(np.asarray(x)[mask]) for m, x in part.items()} for part in batch[1:]]
    np.testing.assert_allclose(masked, scores(*kept, None), rtol=1e-5, atol=1e-6)
    none = scores(keys, values, jnp.zeros(5, bool))
    np.testing.assert_allclose(none, router.gate.bias, rtol=1e-5)


def test_a_module_has_its_own_scale_within_its_group(batch):
    config = RouterConfig(hidden_size=4)
    router = init_router(jax.random.key(0), _SHAPES, config)
    assert router.encoders["2x3"].scale.shape == (2, 4)
    gradient = jax.jit(jax.grad(lambda r: encode_modules(r, _SHAPES, *batch, config)[:, 8:].sum()))(
        router
    )
    scale = gradient.encoders["2x3"].scale
    assert (scale[0] == 0).all() and (scale[1] != 0).any()
    assert (gradient.encoders["3x2"].linear.kernel == 0).all()


def test_the_number_of_modules_can_be_scored_too(batch):
    config = RouterConfig(hidden_size=4, learn_count=True)
    router = init_router(jax.random.key(0), _SHAPES, config)
    scores = jax.jit(lambda: apply_router(router, _SHAPES, *batch, config))()
    assert scores.modules.shape == scores.count.shape == (3,)
    assert init_router(jax.random.key(0), _SHAPES, RouterConfig(4)).count is None


def test_initial_weights_are_uniform_as_in_pytorch():
    router = init_router(jax.random.key(0), _SHAPES, RouterConfig())
    for linear in (router.gate, router.encoders["3x2"].linear):
        bound = linear.kernel.shape[0] ** -0.5
        assert 0.95 * bound < np.abs(linear.kernel).max() <= bound
        np.testing.assert_allclose(np.std(linear.kernel), bound / 3**0.5, rtol=0.1)
