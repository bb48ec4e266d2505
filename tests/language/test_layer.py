"""One layer: its normalizations against NumPy, what is captured, and where hooks reach."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.attention import causal_mask, rotary_angles
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.layer import Shared, decoder_layer, normalize
from tests.language.tiny_models import CONFIGS, GEMMA, GPT2, LLAMA, random_params


def run(config, hooks=None, capture=()):
    """A layer on random hidden states: input, output, captured inputs."""
    layer = random_params(config)["layers"]["0"]
    hidden = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, config.width)), jnp.float32)
    rotary = config.positions == "rotary"
    places = jnp.arange(5)
    shared = Shared(
        causal_mask(jnp.ones((2, 5), bool)),
        places[:, None] - places,
        rotary_angles(config, places) if rotary else None,
    )
    window = jnp.asarray(config.window(0))
    out, captured = decoder_layer(config, capture, layer, hidden, shared, window, hooks or {})
    return layer, hidden, out, captured


@pytest.mark.parametrize("config", [LLAMA, GPT2, GEMMA], ids=["rms", "layer", "rms_plus_one"])
def test_normalizations_are_those_of_their_formulas(config, rng):
    x = rng.normal(2.0, 3.0, size=(4, config.width))
    scale, bias = rng.normal(size=(2, config.width))
    found = normalize(
        config, {"scale": jnp.asarray(scale), "bias": jnp.asarray(bias)}, jnp.asarray(x)
    )
    centered = x - x.mean(-1, keepdims=True) if config.norm == "layer" else x
    expected = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + config.norm_epsilon)
    expected *= 1 + scale if config.norm == "rms_plus_one" else scale
    expected += bias if config.norm == "layer" else 0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_mlp_reads_the_normalized_stream_after_attention(config):
    """Without what the MLP writes, the layer's output is the stream that the MLP reads."""
    width, hidden = config.width, config.mlp_width
    silent = {"mlp/down": Hook(delta=-_kernel(config, "mlp", "down"))}
    layer, _, out, captured = run(config, silent, ("mlp/up", "mlp/down"))
    assert captured["mlp/up"].shape == (2, 5, width)
    assert captured["mlp/down"].shape == (2, 5, hidden)
    if config.mlp_bias or config.post_norms:
        return  # a bias is still written, and a norm of zeros is not the stream's
    expected = normalize(config, layer["mlp_norm"], out)
    np.testing.assert_allclose(captured["mlp/up"], expected, atol=1e-4)


def _kernel(config, part, module):
    return random_params(config)["layers"]["0"][part][module]["kernel"]


def test_a_gate_multiplies():
    """Without a gate the hidden units are the activation of ``up``."""
    config = dataclasses.replace(LLAMA, activation="relu")
    layer, _, _, captured = run(config, capture=("mlp/up", "mlp/down"))
    x = captured["mlp/up"]
    gate, up = (x @ layer["mlp"][name]["kernel"] for name in ("gate", "up"))
    np.testing.assert_allclose(captured["mlp/down"], jnp.maximum(gate, 0) * up, atol=1e-4)
