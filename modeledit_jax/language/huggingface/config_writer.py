"""The ``config.json`` of a network of our own, for `transformers` to load."""

from typing import Any

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.huggingface.config import config_from_json, differing_fields

_CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
}


def config_to_json(config: LanguageModelConfig) -> dict[str, Any]:
    """Returns the contents of the ``config.json`` that `config_from_json` reads as ``config``.

    Raises:
      ValueError: ``config.family`` is unknown, or has no entry for one of the settings, as Llama
        has none for soft caps; the message names the settings.
    """
    if config.family not in _CLASSES:
        raise ValueError(
            f"unknown family {config.family!r}; give config.family one of: {', '.join(_CLASSES)}"
        )
    data = {
        "architectures": [_CLASSES[config.family]],
        "model_type": config.family,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
        **(_gpt2(config) if config.family == "gpt2" else _rotary_decoder(config)),
    }
    if lost := differing_fields(config_from_json(data), config):
        raise ValueError(
            f"a checkpoint of family {config.family!r} cannot express the values of "
            f"{', '.join(lost)}; change config.family or those values"
        )
    return data


def _gpt2(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        "n_embd": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.mlp_width,
        "n_positions": config.context,
        "activation_function": _activation(config),
        "layer_norm_epsilon": config.norm_epsilon,
    }


def _rotary_decoder(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": _activation(config),
        "max_position_embeddings": config.context,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_scaling(config),
        **_windows(config),
        **_of_family(config),
    }


def _activation(config: LanguageModelConfig) -> str:
    tanh = "gelu_new" if config.family == "gpt2" else "gelu_pytorch_tanh"
    return tanh if config.activation == "gelu_tanh" else config.activation


def _rope_scaling(config: LanguageModelConfig) -> dict[str, Any] | None:
    if (scaling := config.rope_scaling) is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_frequency,
        "high_freq_factor": scaling.high_frequency,
        "original_max_position_embeddings": scaling.original_context,
    }


def _windows(config: LanguageModelConfig) -> dict[str, Any]:
    if config.family == "llama":
        return {}
    sizes = [window for window in config.windows if window is not None]
    data: dict[str, Any] = {"sliding_window": sizes[0] if sizes else None}
    if config.family == "qwen2":
        data |= {"use_sliding_window": bool(sizes), "max_window_layers": 0}
    if config.family != "mistral":
        windows = config.windows or (None,) * config.num_layers
        data["layer_types"] = [
            "full_attention" if window is None else "sliding_attention" for window in windows
        ]
    return data


def _of_family(config: LanguageModelConfig) -> dict[str, Any]:
    if config.family == "llama":
        return {"attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}
    if config.family == "gemma2":
        return {
            "attention_bias": config.qkv_bias,
            "hidden_activation": _activation(config),
            "query_pre_attn_scalar": round(config.attention_scale**-2),
            "attn_logit_softcapping": config.attention_softcap,
            "final_logit_softcapping": config.final_softcap,
        }
    return {}
