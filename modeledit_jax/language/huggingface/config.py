"""``config.json`` of Hugging Face checkpoints, to and from `LanguageModelConfig`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from modeledit_jax.language.config import Activation, LanguageModelConfig, RotaryScaling

Json = Mapping[str, Any]

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

_ONLY: dict[str, tuple[Any, ...]] = {
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "add_cross_attention": (False,),
    "use_bidirectional_attention": (None, False),
    "quantization_config": (None,),
}
"""Options this decoder knows in one setting only; the first is the default."""


def config_from_json(data: Json) -> LanguageModelConfig:
    """Reads the contents of a ``config.json``, of transformers 4 or 5.

    Raises:
      ValueError: an architecture, activation, rotary scaling or option that is not supported, or a
        missing entry; the message names it.
    """
    family = data.get("model_type")
    if family not in _READERS:
        raise ValueError(
            f"unknown architecture {family!r} (model_type in config.json); supported are: "
            + ", ".join(_READERS)
        )
    for option, supported in _ONLY.items():
        if (value := data.get(option, supported[0])) not in supported:
            raise ValueError(f"config.json sets {option} to {value!r}, which is not supported")
    try:
        return LanguageModelConfig(family=family, **_READERS[family](data))
    except KeyError as error:
        raise ValueError(f"config.json has no entry {error}; download it again") from error


def _gpt2(data: Json) -> dict[str, Any]:
    return {
        "vocab_size": data["vocab_size"],
        "width": data["n_embd"],
        "num_layers": data["n_layer"],
        "num_heads": data["n_head"],
        "num_kv_heads": data["n_head"],
        "head_dim": data["n_embd"] // data["n_head"],
        "mlp_width": data.get("n_inner") or 4 * data["n_embd"],
        "context": data["n_positions"],
        "activation": _activation(data.get("activation_function", "gelu_new")),
        "gated_mlp": False,
        "norm": "layer",
        "norm_epsilon": data.get("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "tied_head": data.get("tie_word_embeddings", True),
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
    }


def _llama(data: Json) -> dict[str, Any]:
    bias = data.get("attention_bias", False)
    return _rotary_decoder(data) | {
        "num_kv_heads": data.get("num_key_value_heads") or data["num_attention_heads"],
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": data.get("mlp_bias", False),
    }


def _mistral(data: Json) -> dict[str, Any]:
    window = data.get("sliding_window", 4096)
    windows = () if window is None else (window,) * data["num_hidden_layers"]
    return _rotary_decoder(data) | {"windows": windows}


def _qwen2(data: Json) -> dict[str, Any]:
    windows: tuple[int | None, ...] = ()
    if data.get("use_sliding_window", False):
        windows = _windows(data, slides=lambda layer: layer >= data.get("max_window_layers", 28))
    return _rotary_decoder(data) | {"windows": windows, "qkv_bias": True}


def _gemma2(data: Json) -> dict[str, Any]:
    bias = data.get("attention_bias", False)
    return _rotary_decoder(data) | {
        "activation": _activation(data.get("hidden_activation") or "gelu_pytorch_tanh"),
        "norm": "rms_plus_one",
        "post_norms": True,
        "windows": _windows(data, slides=lambda layer: layer % 2 == 0),
        "query_scale": data["query_pre_attn_scalar"] ** -0.5,
        "attention_softcap": data.get("attn_logit_softcapping", 50.0),
        "final_softcap": data.get("final_logit_softcapping", 30.0),
        "embedding_scale": data["hidden_size"] ** 0.5,
        "tied_head": data.get("tie_word_embeddings", True),
        "qkv_bias": bias,
        "output_bias": bias,
    }


def _rotary_decoder(data: Json) -> dict[str, Any]:
    """What Llama and its successors have in common."""
    theta, scaling = _rope(data)
    return {
        "vocab_size": data["vocab_size"],
        "width": data["hidden_size"],
        "num_layers": data["num_hidden_layers"],
        "num_heads": data["num_attention_heads"],
        "num_kv_heads": data.get("num_key_value_heads") or data["num_attention_heads"],
        "head_dim": data.get("head_dim") or data["hidden_size"] // data["num_attention_heads"],
        "mlp_width": data["intermediate_size"],
        "context": data["max_position_embeddings"],
        "activation": _activation(data.get("hidden_act", "silu")),
        "norm_epsilon": data.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied_head": data.get("tie_word_embeddings", False),
    }


def _activation(name: str) -> Activation:
    if name not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; supported are: {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]


def _windows(data: Json, slides: Callable[[int], bool]) -> tuple[int | None, ...]:
    """The window of each layer: from ``layer_types``, which older files leave to the rule."""
    window = data.get("sliding_window", 4096)
    if kinds := data.get("layer_types"):
        return tuple(window if kind == "sliding_attention" else None for kind in kinds)
    return tuple(window if slides(layer) else None for layer in range(data["num_hidden_layers"]))


def _rope(data: Json) -> tuple[float, RotaryScaling | None]:
    """Base and scaling: ``rope_parameters`` since transformers 5, before it two entries."""
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    theta = rope.get("rope_theta") or data.get("rope_theta") or 10_000.0
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.get("partial_rotary_factor", data.get("partial_rotary_factor", 1.0))
    if kind not in ("default", "llama3") or partial != 1.0:
        raise ValueError(
            f"config.json asks for rotary embeddings of type {kind!r} on {partial:.0%} of the "
            "features; supported are 'default' and 'llama3' on all"
        )
    if kind == "default":
        return float(theta), None
    return float(theta), RotaryScaling(
        factor=rope["factor"],
        low_frequency=rope["low_freq_factor"],
        high_frequency=rope["high_freq_factor"],
        original_context=rope["original_max_position_embeddings"],
    )


_READERS: dict[str, Callable[[Json], dict[str, Any]]] = {
    "gpt2": _gpt2,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
    "gemma2": _gemma2,
}


def differing_fields(a: LanguageModelConfig, b: LanguageModelConfig) -> tuple[str, ...]:
    """Returns the names of fields in which two networks differ, however their layers are run."""
    left, right = _meaning(a), _meaning(b)
    return tuple(name for name in left if left[name] != right[name])


def _meaning(config: LanguageModelConfig) -> dict[str, Any]:
    """All fields that bear on the result, with what stands for the absent ones."""
    fields = dataclasses.asdict(config) | {
        "windows": [config.window(layer) for layer in range(config.num_layers)],
        "query_scale": round(config.attention_scale, 12),
    }
    return {name: value for name, value in fields.items() if name not in ("scan_layers", "remat")}
