"""The metadata of a GGUF file as `LanguageModelConfig`."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from modeledit_jax.language.attention import rotary_angles
from modeledit_jax.language.config import LanguageModelConfig, RotaryScaling
from modeledit_jax.language.gguf.header import Header
from modeledit_jax.language.gguf.tensors import ROTARY_FACTORS, gguf_name, read_tensor
from modeledit_jax.reading.fields import Fields

ARCHITECTURE = "llama"
"""The one that is read. Mistral's networks are of it too."""

TOKENS = "tokenizer.ggml.tokens"

_LARGEST, _MOST_LAYERS, _LARGEST_BASE = 2**31 - 1, 10_000, 1e30
_SCALING, _FACTORS = "rope.scaling.type", ("rope.scaling.factor", "rope.scale_linear")
_ONLY: dict[str, tuple[Any, ...]] = {
    "expert_count": (0,),
    "use_parallel_residual": (False,),
    "attention.causal": (True,),
    "attention.sliding_window": (0,),
    "attention.scale": (0.0,),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "logit_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
}
"""Options this decoder knows in one setting only; the first is the default."""

LLAMA_3: dict[str, Any] = {"low_frequency": 1.0, "high_frequency": 4.0, "original_context": 8192}
"""Of Llama 3.1, 3.2 and 3.3. GGUF stores what comes of a scaling, not its settings."""


def metadata_fields(header: Header) -> Fields:
    """The metadata of a file, each entry asked for by its type."""
    cure = "download the file again"
    return Fields(header.metadata, str(header.path), noun="metadata entry", cure=cure)


def config_from_header(header: Header) -> LanguageModelConfig:
    """Reads the network that a file describes.

    Raises:
      ValueError: another architecture, an option or a rotary scaling that is not supported, or an
        entry that is missing, of another type or out of range; the message names it.
    """
    data = metadata_fields(header)
    if (found := data.text("general.architecture")) != ARCHITECTURE:
        raise ValueError(
            f"{header.path} holds a network of the architecture {found!r}, of GGUF files only "
            f"{ARCHITECTURE!r} is read: take the Hugging Face folder of the network"
        )
    for option, supported in _ONLY.items():
        name = f"{ARCHITECTURE}.{option}"
        if (value := data.get(name, supported[0])) not in supported:
            raise ValueError(
                f"{header.path} sets {name} to {value!r}, which is not "
                "supported: take another network"
            )
    config = LanguageModelConfig(**_sizes(data), **_present(header))
    return _with_rotary_scaling(header, data, config)


def _sizes(data: Fields) -> dict[str, Any]:
    width, heads = _size(data, "embedding_length"), _size(data, "attention.head_count")
    key_heads = _size(data, "attention.head_count_kv", heads)
    if heads % key_heads:
        raise data.wrong(_key("attention.head_count_kv"), f"a divisor of {heads} heads")
    head_dim = _size(data, "attention.key_length", max(width // heads, 1))
    for name in ("attention.value_length", "rope.dimension_count"):
        if _size(data, name, head_dim) != head_dim:
            raise data.wrong(_key(name), f"the width of a head, {head_dim}")
    if head_dim % 2 or (width % heads and not data.has(_key("attention.key_length"))):
        raise data.wrong(_key("embedding_length"), f"{heads} heads of an even width each")
    tokens = data.get(TOKENS)
    if not isinstance(tokens, list) or not tokens:
        raise data.wrong(TOKENS, "a list of texts, with at least one")
    return {
        "vocab_size": len(tokens),
        "width": width,
        "num_layers": data.integer(_key("block_count"), 1, _MOST_LAYERS),
        "num_heads": heads,
        "num_kv_heads": key_heads,
        "head_dim": head_dim,
        "mlp_width": _size(data, "feed_forward_length"),
        "context": _size(data, "context_length"),
        "norm_epsilon": data.number(_key("attention.layer_norm_rms_epsilon"), 1, zero=True),
        "rope_theta": data.number(_key("rope.freq_base"), _LARGEST_BASE, 10_000.0),
    }


def _present(header: Header) -> dict[str, Any]:
    """What the presence of tensors says."""
    biases = {
        "qkv_bias": "attention/query",
        "output_bias": "attention/output",
        "mlp_bias": "mlp/up",
    }
    present = {
        option: gguf_name(f"layers/0/{module}/bias") in header.tensors
        for option, module in biases.items()
    }
    return present | {"tied_head": gguf_name("head/kernel") not in header.tensors}


def _key(name: str) -> str:
    return f"{ARCHITECTURE}.{name}"


def _size(data: Fields, name: str, *default: int) -> int:
    return data.integer(_key(name), 1, _LARGEST, *default)


def _with_rotary_scaling(
    header: Header, data: Fields, config: LanguageModelConfig
) -> LanguageModelConfig:
    """The network with the stretching of its rotary frequencies.

    Raises:
      ValueError: it is none that Llama's checkpoints can express.
    """
    kind = data.get(_key(_SCALING), "none")
    stretched = [name for name in _FACTORS if data.get(_key(name), 1.0) not in (0, 1)]
    if kind != "none" or stretched:
        name = _key(stretched[0] if stretched else _SCALING)
        raise ValueError(
            f"{header.path} stretches rotary positions ({name} is "
            f"{data.get(name)!r}), which is not supported: take the network as it was trained"
        )
    if ROTARY_FACTORS not in header.tensors:
        return config
    unknown = (
        f"{header.path}: {ROTARY_FACTORS} holds no stretching of Llama 3's kind, the one that is "
        "supported: take the network as it was trained"
    )
    if header.tensors[ROTARY_FACTORS].shape != (config.head_dim // 2,):
        raise ValueError(unknown)
    factors = read_tensor(header, ROTARY_FACTORS)
    if (factors == 1.0).all():
        return config
    if not (factors > 0.0).all():
        raise ValueError(unknown)
    scaling = RotaryScaling(factor=float(factors.max()), **LLAMA_3)
    scaled = dataclasses.replace(config, rope_scaling=scaling)
    one = jnp.ones(1, jnp.int32)
    expected = np.asarray(rotary_angles(config, one)[0] / rotary_angles(scaled, one)[0])
    if not np.allclose(factors, expected, rtol=1e-4):
        raise ValueError(unknown)
    return scaled
