"""Configurations: what is refused, patterns of modules, windows."""

import dataclasses

import pytest

from modeledit_jax.language.config import (
    all_modules,
    layer_modules,
    mlps_at_depth,
    module_names,
    tiny_llama,
)
from tests.language.tiny_models import GEMMA, GPT2, LLAMA


def test_modules_in_the_order_of_the_network():
    assert layer_modules(GPT2)[-2:] == ("mlp/up", "mlp/down")
    assert layer_modules(LLAMA)[-3:] == ("mlp/gate", "mlp/up", "mlp/down")
    names = all_modules(LLAMA)
    assert names[0] == "layers/0/attention/query" and names[-1] == "head"
    assert len(names) == 1 + LLAMA.num_layers * len(layer_modules(LLAMA))


def test_windows_and_scale_have_defaults():
    assert [LLAMA.window(layer) for layer in range(4)] == [LLAMA.context] * 4
    assert [GEMMA.window(layer) for layer in range(4)] == [4, 16, 4, 16]
    assert LLAMA.attention_scale == LLAMA.head_dim**-0.5 and GEMMA.attention_scale == 0.3


def test_patterns_of_modules():
    assert module_names(LLAMA, "layers/[12]/mlp/down") == ("layers/1/mlp/down", "layers/2/mlp/down")
    assert module_names(LLAMA, ["head", "layers/0/attention/key"])[-1] == "head"
    assert "head" not in module_names(GEMMA, "*")
    with pytest.raises(ValueError, match=r"'layers/9/\*'.*layers/0/attention/query.*head"):
        module_names(LLAMA, ["head", "layers/9/*"])
    with pytest.raises(ValueError, match="empty list"):
        module_names(LLAMA, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"head_dim": 3}, "even head_dim"),
        ({"windows": (4,)}, "one per layer"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LLAMA, **changes)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="no multiple of 6 heads"):
        tiny_llama(10, width=100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 0}, "num_kv_heads is 0: it must be an integer of at least 1"),
        ({"num_layers": -1}, "num_layers is -1"),
        ({"width": 16.0}, "width is 16.0"),
        ({"context": True}, "context is True"),
        ({"vocab_size": "61"}, "vocab_size is '61'"),
        ({"norm_epsilon": float("nan")}, "norm_epsilon is nan"),
        ({"rope_theta": 0.0}, "rope_theta 0.0"),
    ],
)
def test_sizes_are_positive_integers(changes, message):
    fields = vars(LLAMA) | changes
    made = object.__new__(type(LLAMA))  # a run-time type checker would answer first
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    with pytest.raises(ValueError, match=message):
        made.__post_init__()


def test_no_heads():
    with pytest.raises(ValueError, match="num_heads is 0: it must be an integer of at least 1"):
        tiny_llama(61, num_heads=0)


@pytest.mark.parametrize(
    ("layers", "depth", "chosen"),
    [(30, (0.66, 0.93), range(20, 28)), (30, (0.26, 0.36), range(8, 11)), (2, (0.26, 0.36), [0]),
     (2, (0.66, 0.93), [1]), (1, (0.9, 1.0), [0]), (4, (0.0, 1.0), range(4))],
)  # fmt: skip
def test_a_share_of_the_depth_is_some_layers_and_one_at_least(layers, depth, chosen):
    config = tiny_llama(16, width=8, num_layers=layers, num_heads=2)
    found = mlps_at_depth(config, depth)
    assert found == tuple(f"layers/{index}/mlp/down" for index in chosen)
    assert module_names(config, found) == found
