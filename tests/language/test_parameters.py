"""The parameter pytree: names, shapes, initial values, stacked layers."""

import chex
import jax
import pytest
from flax.traverse_util import flatten_dict

from modeledit_jax.language.parameters import (
    init_params,
    layer_parameters,
    layers_are_stacked,
    parameter_shapes,
    stack_layers,
    unstack_layers,
)
from tests.language.tiny_models import CONFIGS, GPT2, LLAMA, random_params


@pytest.fixture(params=CONFIGS)
def model(request):
    config = CONFIGS[request.param]
    return config, random_params(config)


def test_shapes_are_those_of_the_initial_parameters(model):
    config, _ = model
    leaves = flatten_dict(init_params(config, jax.random.key(0)), sep="/")
    assert {path: leaf.shape for path, leaf in leaves.items()} == parameter_shapes(config)


def test_families_differ_in_their_leaves():
    assert "positions/embedding" in parameter_shapes(GPT2)
    assert "head/kernel" in parameter_shapes(LLAMA) and "head/kernel" not in parameter_shapes(GPT2)
    assert "layers/0/attention/query/bias" in parameter_shapes(GPT2)
    assert "final_norm/bias" not in parameter_shapes(LLAMA)


def test_what_writes_to_the_residual_stream_starts_smaller():
    params = init_params(LLAMA, jax.random.key(0))["layers"]["0"]["mlp"]
    assert params["down"]["kernel"].std() < 0.5 * params["up"]["kernel"].std()


def test_stacking_is_undone_by_unstacking(model):
    _, params = model
    again = unstack_layers(stack_layers(params))
    chex.assert_trees_all_equal(again, params)
    with pytest.raises(ValueError, match="stacked already"):
        stack_layers(stack_layers(params))
    with pytest.raises(ValueError, match="not stacked"):
        unstack_layers(params)


def test_one_layer_is_the_same_stacked_or_not(model):
    _, params = model
    for given in (params, stack_layers(params)):
        chex.assert_trees_all_equal(layer_parameters(given, 2), params["layers"]["2"])


def test_stacked_layers_are_recognized(model):
    _, params = model
    assert layers_are_stacked(stack_layers(params)) and not layers_are_stacked(params)
