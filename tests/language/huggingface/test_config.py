"""``config.json``: old and new spellings, what is refused, and the way back.

Of the kind "numbers of the wrong type or out of range in files": each entry as a text, a float for
an integer, a truth value for a number and the reverse, null where there is no meaning for it, zero,
negative, far too large, a list or an object; sizes that do not divide; lists of another length.
"""

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


@pytest.mark.parametrize(
    ("base", "change", "entry"),
    [
        *(
            (LLAMA_3_1, {name: value}, name)
            for name, values in {
                "vocab_size": [None, 0, 3.0, [3], 2**31],
                "hidden_size": ["4096", -1, 10**400],
                "num_hidden_layers": [0, 10**9, "32", True],
                "num_attention_heads": [0, -1, {}],
                "num_key_value_heads": [0, 5, "8"],
                "head_dim": [0, 3.5, "128", 5],
                "intermediate_size": [None, 0],
                "max_position_embeddings": [-1, "16", 0],
                "rms_norm_eps": ["x", -1, float("nan"), None, 2],
                "rope_theta": [0, -1, "1e4", float("inf")],
                "tie_word_embeddings": ["false", 1, 0.0, []],
                "attention_bias": ["no"],
                "mlp_bias": [0],
                "hidden_act": [None, 3, ["silu"]],
                "rope_scaling": ["linear", [], 3],
                "partial_rotary_factor": ["x", 0],
                "model_type": [[], 3, None],
            }.items()
            for value in values
        ),
        (LLAMA_3_1, {"rope_scaling": {"rope_type": "llama3"}}, "low_freq_factor"),
        (
            LLAMA_3_1,
            {"rope_scaling": LLAMA_3_1["rope_scaling"] | {"factor": 0}},
            "factor",
        ),
        (
            LLAMA_3_1,
            {"rope_scaling": LLAMA_3_1["rope_scaling"] | {"high_freq_factor": 1.0}},
            "high_freq_factor",
        ),
        (LLAMA_3_1, {"rope_parameters": {"full_attention": {}}}, "full_attention"),
        *((GPT2_SMALL, {"n_head": value}, "n_head") for value in (0, -1, "12", None)),
        (GPT2_SMALL, {"n_head": 7}, "n_embd"),
        (GPT2_SMALL, {"n_inner": 0}, "n_inner"),
        (GPT2_SMALL, {"n_layer": 2.0}, "n_layer"),
        (GPT2_SMALL, {"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon"),
        (GPT2_SMALL, {"activation_function": None}, "activation_function"),
        *((GEMMA_2_2B, {"query_pre_attn_scalar": v}, "query_pre_attn") for v in (0, "256", None)),
        *((GEMMA_2_2B, {"sliding_window": v}, "sliding_window") for v in (0, -4, "4096")),
        *((GEMMA_2_2B, {"final_logit_softcapping": v}, "final_logit") for v in (0, -1, "30")),
        *(
            (GEMMA_2_2B, {"layer_types": v}, "layer_types")
            for v in ("full_attention", ["full_attention"], ["chunked"] * 26, [[]] * 26, {})
        ),
        (MISTRAL, {"sliding_window": 0}, "sliding_window"),
        (QWEN_2, {"use_sliding_window": "yes"}, "use_sliding_window"),
        (QWEN_2, {"use_sliding_window": True, "max_window_layers": -1}, "max_window_layers"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) and len(value) == 1 else "",
)
def test_entries_of_other_types_and_ranges_are_named(base, change, entry):
    with pytest.raises(ValueError, match=entry) as error:
        config_from_json(base | change, "folder/config.json")
    assert "folder/config.json" in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_null_stands_for_what_is_left_open():
    for base, name in (
        (LLAMA_3_1, "num_key_value_heads"),
        (LLAMA_3_1, "head_dim"),
        (LLAMA_3_1, "rope_theta"),
        (LLAMA_3_1, "rope_scaling"),
        (GPT2_SMALL, "n_inner"),
    ):
        without = {key: value for key, value in base.items() if key != name}
        assert config_from_json(base | {name: None}) == config_from_json(without)
    assert config_from_json(GEMMA_2_2B | {"attn_logit_softcapping": None}).attention_softcap is None
    assert config_from_json(LLAMA_3_1 | {"tie_word_embeddings": None}).tied_head is False


def test_whole_numbers_where_floats_are_meant():
    scaling = LLAMA_3_1["rope_scaling"] | {"factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
    assert config_from_json(LLAMA_3_1 | {"rope_scaling": scaling}) == config_from_json(LLAMA_3_1)
    assert config_from_json(LLAMA_3_1 | {"rope_theta": 500000}) == config_from_json(LLAMA_3_1)
