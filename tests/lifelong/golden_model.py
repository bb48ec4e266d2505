"""The network and the batches of the goldens in this project's layout."""

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.names import stored_tensors
from modeledit_jax.lifelong.model import EditableModel
from tests.lifelong.golden import load, section

CONFIG = LanguageModelConfig(
    vocab_size=97,
    width=32,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_width=48,
    context=32,
)


def golden_model(modules, dtype=np.float64):
    """The tiny Llama; the order of ``modules`` is that of the released code."""
    tensors = section(load("llama"), "hf/")
    params = {}
    for path, stored in stored_tensors(CONFIG).items():
        tensor = tensors[stored.name].astype(dtype)
        node = params
        *folders, leaf = path.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = jnp.asarray(tensor.T if stored.transposed else tensor)
    return EditableModel(params, CONFIG, tuple(str(name) for name in modules))


def joined(arrays, prefix, length=16):
    """The minibatches below ``prefix`` as one batch, padded to ``length``."""
    parts = []
    for index in range(sum(key.endswith("/tokens") for key in section(arrays, prefix))):
        own = section(arrays, f"{prefix}{index}/")
        fill = {"tokens": 0, "attention": False, "labels": IGNORED}
        padded = {
            name: np.pad(
                own[name], ((0, 0), (0, length - own[name].shape[1])), constant_values=value
            )
            for name, value in fill.items()
        }
        parts.append(TokenBatch(**padded))
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *parts)


def golden_stream(arrays, steps):
    """The steps of a trajectory as a stream of facts."""
    batches = [
        FactBatch(
            *(joined(arrays, f"step/{t}/{part}/") for part in ("edit", "rephrase", "locality")),
            *(None, None, None),
            jnp.full(4, -1),
        )
        for t in range(steps)
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
