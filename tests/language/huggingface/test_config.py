"""``config.json``: old and new spellings, what is refused, and the way back."""

import dataclasses

import pytest

from modeledit_jax.language.config import RotaryScaling
from modeledit_jax.language.huggingface.config import config_from_json, differing_fields
from tests.language.tiny_models import LLAMA

# Entries of the published configurations, as far as they bear on the network.
LLAMA_3_1 = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
GEMMA_2_2B = {
    "model_type": "gemma2",
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
GPT2_SMALL = {
    "model_type": "gpt2",
    "vocab_size": 50257,
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "layer_norm_epsilon": 1e-5,
}
QWEN_2 = LLAMA_3_1 | {"model_type": "qwen2", "rope_scaling": None, "sliding_window": 4096}
MISTRAL = QWEN_2 | {"model_type": "mistral"}
ALL = {"llama": LLAMA_3_1, "gemma2": GEMMA_2_2B, "gpt2": GPT2_SMALL, "qwen2": QWEN_2}


def test_rotary_parameters_in_both_spellings():
    old = config_from_json(LLAMA_3_1)
    new = {name: v for name, v in LLAMA_3_1.items() if not name.startswith("rope_")}
    new["rope_parameters"] = LLAMA_3_1["rope_scaling"] | {"rope_theta": 500000.0}
    assert config_from_json(new) == old
    assert old.rope_scaling == RotaryScaling(8.0, 1.0, 4.0, 8192) and old.rope_theta == 5e5
    plain = {"rope_type": "default", "rope_theta": 1e6}
    assert config_from_json(new | {"rope_parameters": plain}).rope_scaling is None


def test_gemma_2_as_published():
    config = config_from_json(GEMMA_2_2B)
    assert config.tied_head and config.norm == "rms_plus_one" and config.post_norms
    assert config.windows[:3] == (4096, None, 4096)
    assert config.attention_scale == 1 / 16 and config.embedding_scale == 48.0
    assert (config.attention_softcap, config.final_softcap) == (50.0, 30.0)


def test_windows_of_each_family():
    assert set(config_from_json(MISTRAL).windows) == {4096}
    assert config_from_json(MISTRAL | {"sliding_window": None}).windows == ()
    assert config_from_json(QWEN_2).windows == ()  # use_sliding_window is false
    late = config_from_json(QWEN_2 | {"use_sliding_window": True, "max_window_layers": 30})
    assert late.windows == (None,) * 30 + (4096,) * 2
    kinds = ["full_attention"] * 31 + ["sliding_attention"]
    listed = config_from_json(QWEN_2 | {"use_sliding_window": True, "layer_types": kinds})
    assert listed.windows == (None,) * 31 + (4096,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model_type": "t5"}, "unknown architecture 't5'.*gpt2, llama, mistral, qwen2, gemma2"),
        ({}, "unknown architecture None"),
        (GPT2_SMALL | {"add_cross_attention": True}, "add_cross_attention to True"),
        (LLAMA_3_1 | {"quantization_config": {"bits": 4}}, "quantization_config"),
        (LLAMA_3_1 | {"rope_scaling": {"type": "yarn"}}, "'yarn'.*supported are 'default'"),
        (LLAMA_3_1 | {"hidden_act": "mish"}, "unknown activation 'mish'; supported are: silu"),
        ({"model_type": "llama", "vocab_size": 3}, "no entry 'hidden_size'|no entry 'num_hidden"),
    ],
)
def test_what_is_not_supported_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        config_from_json(data)


def test_how_layers_are_run_does_not_count():
    other = dataclasses.replace(LLAMA, scan_layers=True, remat=True, windows=(None, 16, 99, None))
    assert differing_fields(LLAMA, other) == ()
    assert differing_fields(LLAMA, dataclasses.replace(LLAMA, width=8)) == ("width",)
