"""The network and the batches of the goldens in this project's layout."""

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.contexts import ContextBatch
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


def sharp_model(modules, dtype=np.float64):
    """`golden_model` with four times its head, so that answers can become likely."""
    model = golden_model(modules, dtype)
    head = {"kernel": 4 * model.params["head"]["kernel"]}
    return model.replace(params={**model.params, "head": head})


def context_rows(arrays, prefix=""):
    """The rows of facts below ``prefix``, with the places of their subjects."""
    own = section(arrays, prefix)
    rows = TokenBatch(*(jnp.asarray(own[name]) for name in ("tokens", "attention", "labels")))
    return ContextBatch(rows, jnp.asarray(own["subject"]))


def context_facts(rows, filling=0):
    """A batch of facts with contexts, and so many rows behind it that do not count."""
    values = {"tokens": 0, "attention": False, "labels": IGNORED, "subject": -1}

    def filled(name, leaf):
        room = ((0, filling), *((0, 0),) * (leaf.ndim - 1))
        return jnp.pad(leaf, room, constant_values=values[name])

    rows = ContextBatch(
        TokenBatch(
            *(filled(name, getattr(rows.rows, name)) for name in ("tokens", "attention", "labels"))
        ),
        filled("subject", rows.subject),
    )
    bare = jax.tree.map(lambda leaf: leaf[:, 0], rows)
    return FactBatch(*[bare.rows] * 3, *[None] * 3, bare.subject, rows)


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
