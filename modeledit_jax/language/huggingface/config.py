"""``config.json`` of Hugging Face checkpoints, to and from `LanguageModelConfig`."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from modeledit_jax.language.config import Activation, LanguageModelConfig, RotaryScaling
from modeledit_jax.reading.fields import Fields

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

_LAYER_TYPES = ("full_attention", "sliding_attention")

_MOST_LAYERS, _LARGEST, _LARGEST_BASE = 10_000, 2**31 - 1, 1e30
"""Ranges: numbers that no network has are refused before anything of that size is made."""


def config_from_json(data: Json, where: str = "config.json") -> LanguageModelConfig:
    """Reads the contents of a ``config.json``, of transformers 4 or 5.

    Args:
      data: the parsed file.
      where: its path, for messages.

    Raises:
      ValueError: an architecture, activation, rotary scaling or option that is not supported, or
        an entry that is missing, of another type or out of range; the message names it.
    """
    family = data.get("model_type")
    if not isinstance(family, str) or family not in _READERS:
        raise ValueError(
            f"unknown architecture {family!r} (model_type in {where}); supported are: "
            + ", ".join(_READERS)
        )
    for option, supported in _ONLY.items():
        if (value := data.get(option, supported[0])) not in supported:
            raise ValueError(f"{where} sets {option} to {value!r}, which is not supported")
    entries = Fields(data, where, noun="entry", cure="download the file again")
    return LanguageModelConfig(family=family, **_READERS[family](entries))


def _gpt2(data: Fields) -> dict[str, Any]:
    width, heads = _size(data, "n_embd"), _size(data, "n_head")
    return {
        "vocab_size": _size(data, "vocab_size"),
        "width": width,
        "num_layers": data.integer("n_layer", 1, _MOST_LAYERS),
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": _divided(data, "n_embd", "n_head"),
        "mlp_width": 4 * width if data.is_null("n_inner") else _size(data, "n_inner"),
        "context": _size(data, "n_positions"),
        "activation": _activation(data, "activation_function", "gelu_new"),
        "gated_mlp": False,
        "norm": "layer",
        "norm_epsilon": data.number("layer_norm_epsilon", 1, 1e-5, zero=True),
        "positions": "learned",
        "tied_head": data.flag("tie_word_embeddings", True),
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
    }


def _llama(data: Fields) -> dict[str, Any]:
    bias = data.flag("attention_bias", False)
    return _rotary_decoder(data) | {
        "qkv_bias": bias,
        "output_bias": bias,
        "mlp_bias": data.flag("mlp_bias", False),
    }


def _mistral(data: Fields) -> dict[str, Any]:
    decoder, window = _rotary_decoder(data), _window(data)
    return decoder | {"windows": () if window is None else (window,) * decoder["num_layers"]}


def _qwen2(data: Fields) -> dict[str, Any]:
    decoder = _rotary_decoder(data)
    windows: tuple[int | None, ...] = ()
    if data.flag("use_sliding_window", False):
        first = data.integer("max_window_layers", 0, _LARGEST, 28)
        windows = _windows(data, decoder["num_layers"], slides=lambda layer: layer >= first)
    return decoder | {"windows": windows, "qkv_bias": True}


def _gemma2(data: Fields) -> dict[str, Any]:
    decoder, bias = _rotary_decoder(data), data.flag("attention_bias", False)
    name = "hidden_activation"
    known = not data.is_null(name) and data.get(name) != ""
    return decoder | {
        "activation": _activation(data, name, "gelu_pytorch_tanh") if known else "gelu_tanh",
        "norm": "rms_plus_one",
        "post_norms": True,
        "windows": _windows(data, decoder["num_layers"], slides=lambda layer: layer % 2 == 0),
        "query_scale": data.number("query_pre_attn_scalar", _LARGEST) ** -0.5,
        "attention_softcap": _softcap(data, "attn_logit_softcapping", 50.0),
        "final_softcap": _softcap(data, "final_logit_softcapping", 30.0),
        "embedding_scale": decoder["width"] ** 0.5,
        "tied_head": data.flag("tie_word_embeddings", True),
        "qkv_bias": bias,
        "output_bias": bias,
    }


def _rotary_decoder(data: Fields) -> dict[str, Any]:
    """What Llama and its successors have in common."""
    width, heads = _size(data, "hidden_size"), _size(data, "num_attention_heads")
    name = "num_key_value_heads"
    keys = heads if data.is_null(name) else _size(data, name)
    if heads % keys:
        raise data.wrong(name, f"a divisor of num_attention_heads, {heads}")
    head_dim = (
        _divided(data, "hidden_size", "num_attention_heads")
        if data.is_null("head_dim")
        else _size(data, "head_dim")
    )
    if head_dim % 2:
        raise data.wrong("head_dim", f"even for rotary positions; it comes to {head_dim}")
    theta, scaling = _rope(data)
    return {
        "vocab_size": _size(data, "vocab_size"),
        "width": width,
        "num_layers": data.integer("num_hidden_layers", 1, _MOST_LAYERS),
        "num_heads": heads,
        "num_kv_heads": keys,
        "head_dim": head_dim,
        "mlp_width": _size(data, "intermediate_size"),
        "context": _size(data, "max_position_embeddings"),
        "activation": _activation(data, "hidden_act", "silu"),
        "norm_epsilon": data.number("rms_norm_eps", 1, 1e-6, zero=True),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "tied_head": data.flag("tie_word_embeddings", False),
    }


def _size(data: Fields, name: str) -> int:
    return data.integer(name, 1, _LARGEST)


def _divided(data: Fields, name: str, by: str) -> int:
    """The width of a head where no entry says it."""
    width, heads = _size(data, name), _size(data, by)
    if width % heads:
        raise data.wrong(name, f"a multiple of {by}, {heads}")
    return width // heads


def _softcap(data: Fields, name: str, default: float) -> float | None:
    return None if data.get(name, default) is None else data.number(name, _LARGEST, default)


def _activation(data: Fields, name: str, default: str) -> Activation:
    value = data.get(name, default)
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise ValueError(
            f"{data.where}, {name}: unknown activation {value!r}; supported are: "
            + ", ".join(_ACTIVATIONS)
        )
    return _ACTIVATIONS[value]


def _window(data: Fields) -> int | None:
    name = "sliding_window"
    if data.has(name) and data.is_null(name):
        return None
    return data.integer(name, 1, _LARGEST, 4096)


def _windows(
    data: Fields, num_layers: int, slides: Callable[[int], bool]
) -> tuple[int | None, ...]:
    """The window of each layer: from ``layer_types``, which older files leave to the rule."""
    window, name = _window(data), "layer_types"
    kinds = data.get(name, None)
    if kinds is None or kinds == []:
        return tuple(window if slides(layer) else None for layer in range(num_layers))
    if (
        not isinstance(kinds, list)
        or len(kinds) != num_layers
        or not all(kind in _LAYER_TYPES for kind in kinds)
    ):
        raise data.wrong(name, f"a list of {' or '.join(_LAYER_TYPES)}, one for each layer")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _rope(data: Fields) -> tuple[float, RotaryScaling | None]:
    """Base and scaling: ``rope_parameters`` since transformers 5, before it two entries."""
    names = ("rope_parameters", "rope_scaling")
    given = next((name for name in names if data.get(name, None) not in (None, {})), None)
    rope = data if given is None else data.inner(given)
    theta = rope if not rope.is_null("rope_theta") else data
    base = 10_000.0 if theta.is_null("rope_theta") else theta.number("rope_theta", _LARGEST_BASE)
    kind = "default"
    if given is not None:
        if layered := [name for name in _LAYER_TYPES if rope.has(name)]:
            raise rope.wrong(layered[0], "absent, as all layers have one rotary embedding")
        kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope if rope.has("partial_rotary_factor") else data
    share = partial.number("partial_rotary_factor", 1, 1.0)
    if kind not in ("default", "llama3") or share != 1.0:
        raise ValueError(
            f"{data.where} asks for rotary embeddings of type {kind!r} on {share:.0%} of the "
            "features; supported are 'default' and 'llama3' on all"
        )
    if kind == "default":
        return float(base), None
    return float(base), _rope_scaling(rope)


def _rope_scaling(rope: Fields) -> RotaryScaling:
    low, high = (rope.number(name, _LARGEST) for name in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise rope.wrong("high_freq_factor", f"more than low_freq_factor, {low:g}")
    return RotaryScaling(
        factor=rope.number("factor", _LARGEST),
        low_frequency=low,
        high_frequency=high,
        original_context=_size(rope, "original_max_position_embeddings"),
    )


_READERS: dict[str, Callable[[Fields], dict[str, Any]]] = {
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
