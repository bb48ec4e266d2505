"""Hugging Face folders of tiny random networks, with a tokenizer trained on a few sentences."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp

from modeledit_jax.data.facts.common_knowledge import SENTENCES
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from modeledit_jax.language.config import tiny_llama
from modeledit_jax.language.huggingface.checkpoint import save_pretrained
from modeledit_jax.language.parameters import init_params

VOCABULARY = 400
_LLAMA = tiny_llama(VOCABULARY, width=16, num_layers=2, num_heads=2, mlp_width=24, context=128)
NETWORKS = {
    "llama": dataclasses.replace(_LLAMA, tied_head=False),
    "gpt2": dataclasses.replace(
        _LLAMA,
        family="gpt2",
        gated_mlp=False,
        activation="gelu_tanh",
        norm="layer",
        positions="learned",
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
    ),
}


def write_folder(folder: Path, family: str = "llama", dtype=jnp.float32) -> Path:
    """A random network, far from its initial values so that it has something to say."""
    config = NETWORKS[family]
    params = jax.tree.map(lambda w: (3.0 * w).astype(dtype), init_params(config, jax.random.key(0)))
    save_pretrained(folder, config, params, tokenizer=byte_pair_tokenizer(SENTENCES, VOCABULARY))
    return folder


def write_facts(path: Path, count: int) -> Path:
    """Facts about invented subjects in a file of the user's own layout."""
    names = [f"Mu{index}" for index in range(count)]
    records = [
        {
            "subject": name,
            "prompt": f"{name} lies in",
            "target": "the sea" if index % 2 else "the sky",
            "target_true": "a wood",
            "rephrases": [f"Where is {name}? In"],
            "locality": [{"prompt": "The dog slept by", "answer": "the door"}],
        }
        for index, name in enumerate(names)
    ]
    path.write_text(json.dumps(records))
    return path
