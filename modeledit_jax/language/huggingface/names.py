"""Where each leaf lies in a Hugging Face checkpoint: one table of names per family."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.parameters import parameter_shapes

HEAD = "lm_head.weight"


@dataclass(frozen=True)
class Stored:
    """The tensor that holds a leaf.

    Attributes:
      name: of the tensor.
      shape: of the tensor.
      transposed: kernels of ``torch.nn.Linear`` are ``[d_out, d_in]``, ours ``[d_in, d_out]``.
      part: which third of the last axis the leaf is, where query, key and value are fused.
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False
    part: int | None = None


@dataclass(frozen=True)
class _Names:
    """Names of one family; a module stands for its weight and its bias."""

    prefix: str = "model."
    layers: str = "layers"
    tokens: str = "embed_tokens"
    positions: str = ""
    final_norm: str = "norm"
    transposed: bool = True
    modules: dict[str, str] = field(default_factory=dict)
    fused: dict[str, int] = field(default_factory=dict)


_LLAMA = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.o_proj",
    "mlp/gate": "mlp.gate_proj",
    "mlp/up": "mlp.up_proj",
    "mlp/down": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}
_GEMMA2 = _LLAMA | {
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
_GPT2 = {
    "attention/query": "attn.c_attn",
    "attention/key": "attn.c_attn",
    "attention/value": "attn.c_attn",
    "attention/output": "attn.c_proj",
    "mlp/up": "mlp.c_fc",
    "mlp/down": "mlp.c_proj",
    "attention_norm": "ln_1",
    "mlp_norm": "ln_2",
}

_FAMILIES = {
    "llama": _Names(modules=_LLAMA),
    "mistral": _Names(modules=_LLAMA),
    "qwen2": _Names(modules=_LLAMA),
    "gemma2": _Names(modules=_GEMMA2),
    "gpt2": _Names(
        prefix="transformer.",
        layers="h",
        tokens="wte",
        positions="wpe",
        final_norm="ln_f",
        transposed=False,
        modules=_GPT2,
        fused={"attention/query": 0, "attention/key": 1, "attention/value": 2},
    ),
}

_BUFFERS = (".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")
"""Ends of tensors that old checkpoints hold besides parameters."""


def is_buffer(name: str) -> bool:
    """Whether the tensor ``name`` is a constant that older versions of transformers saved."""
    return name.endswith(_BUFFERS)


def stored_tensors(
    config: LanguageModelConfig, names: Collection[str] | None = None
) -> dict[str, Stored]:
    """Returns where every leaf of ``config`` lies, by the path of the leaf.

    Args:
      config: ``config.family`` picks the table.
      names: tensors of an existing checkpoint, which may have been saved without its head and
        then without the prefix of the family (``h.0.…`` for ``transformer.h.0.…``), or with one
        name for embeddings and tied head, which may be that of the head
        (``safetensors.torch.save_model``).
    """
    family = _FAMILIES[config.family]
    bare = names is not None and not any(name.startswith(family.prefix) for name in names)
    prefix = "" if bare else family.prefix
    places = {
        path: _stored(family, prefix, path, shape)
        for path, shape in parameter_shapes(config).items()
    }
    if names is not None and config.tied_head and HEAD in names:
        table = places["tokens/embedding"]
        if table.name not in names:
            places["tokens/embedding"] = replace(table, name=HEAD)
    return places


def _stored(family: _Names, prefix: str, path: str, shape: tuple[int, ...]) -> Stored:
    module, leaf = path.rsplit("/", 1)
    end = "bias" if leaf == "bias" else "weight"
    if module == "head":
        return Stored(HEAD, shape[::-1], transposed=True)
    if not module.startswith("layers/"):
        top = {"tokens": family.tokens, "positions": family.positions}
        return Stored(f"{prefix}{top.get(module, family.final_norm)}.{end}", shape)
    _, index, module = module.split("/", 2)
    name = f"{prefix}{family.layers}.{index}.{family.modules[module]}.{end}"
    transposed = family.transposed and leaf == "kernel"
    part = family.fused.get(module)
    stored = shape[::-1] if transposed else shape
    if part is not None:
        stored = (*stored[:-1], len(family.fused) * stored[-1])
    return Stored(name, stored, transposed, part)
