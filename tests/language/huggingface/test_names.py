"""Names of tensors: every leaf has a place, no two leaves share one."""

import pytest

from modeledit_jax.language.huggingface.names import is_buffer, stored_tensors
from modeledit_jax.language.parameters import parameter_shapes
from tests.language.tiny_models import CONFIGS


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_leaf_has_a_place_of_its_own(config):
    places = stored_tensors(config)
    assert list(places) == list(parameter_shapes(config))
    assert len({(place.name, place.part) for place in places.values()}) == len(places)


def test_query_key_and_value_of_gpt2_are_thirds_of_one_tensor():
    places = stored_tensors(CONFIGS["gpt2"])
    thirds = [places[f"layers/2/attention/{name}/kernel"] for name in ("query", "key", "value")]
    assert [place.part for place in thirds] == [0, 1, 2]
    assert {(p.name, p.shape) for p in thirds} == {("transformer.h.2.attn.c_attn.weight", (16, 48))}


def test_kernels_of_llama_are_transposed():
    place = stored_tensors(CONFIGS["llama"])["layers/0/attention/key/kernel"]
    assert place.name == "model.layers.0.self_attn.k_proj.weight"
    assert place.shape == (8, 16) and place.transposed


def test_buffers_are_not_parameters():
    assert is_buffer("h.0.attn.bias") and is_buffer("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert not is_buffer("h.0.attn.c_attn.bias")
