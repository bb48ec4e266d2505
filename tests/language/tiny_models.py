"""Small configurations of every feature, and their random parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from modeledit_jax.language.config import LanguageModelConfig, tiny_llama
from modeledit_jax.language.parameters import parameter_shapes, stack_layers

VOCAB, LENGTH = 61, 12

LLAMA = tiny_llama(
    VOCAB, width=16, num_layers=4, num_heads=4, num_kv_heads=2, context=16, tied_head=False
)
GPT2 = dataclasses.replace(
    LLAMA,
    num_kv_heads=4,
    family="gpt2",
    gated_mlp=False,
    activation="gelu_tanh",
    norm="layer",
    positions="learned",
    qkv_bias=True,
    output_bias=True,
    mlp_bias=True,
    tied_head=True,
)
GEMMA = dataclasses.replace(
    LLAMA,
    family="gemma2",
    activation="gelu_tanh",
    norm="rms_plus_one",
    post_norms=True,
    windows=(4, None, 4, None),
    query_scale=0.3,
    attention_softcap=5.0,
    final_softcap=3.0,
    embedding_scale=4.0,
    tied_head=True,
)
CONFIGS = {"llama": LLAMA, "gpt2": GPT2, "gemma2": GEMMA}


def random_params(config: LanguageModelConfig, seed: int = 0):
    """Parameters far from their initial values, so that every one of them matters."""
    rng = np.random.default_rng(seed)
    leaves = {
        path: jnp.asarray(float(path.endswith("scale")) + 0.2 * rng.normal(size=shape), "float32")
        for path, shape in parameter_shapes(config).items()
    }
    params = unflatten_dict(leaves, sep="/")
    return stack_layers(params) if config.scan_layers else params


def random_tokens(n: int = 3, length: int = LENGTH, seed: int = 0):
    """Tokens, and an attention mask that pads all rows but the first on the right."""
    tokens = jax.random.randint(jax.random.key(seed), (n, length), 0, VOCAB)
    ends = length - 2 * jnp.arange(n)
    return tokens, jnp.arange(length) < ends[:, None]
