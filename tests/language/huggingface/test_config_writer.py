"""``config.json`` of our own networks: the way back, and what no layout can express."""

import dataclasses

import pytest

from modeledit_jax.language.huggingface.config import config_from_json, differing_fields
from modeledit_jax.language.huggingface.config_writer import config_to_json
from tests.language.huggingface.test_config import ALL
from tests.language.tiny_models import GPT2, LLAMA


@pytest.mark.parametrize("data", ALL.values(), ids=ALL)
def test_writing_and_reading_is_the_identity(data):
    config = config_from_json(data)
    assert not differing_fields(config_from_json(config_to_json(config)), config)


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_networks_of_our_own_are_written_too(config):
    assert not differing_fields(config_from_json(config_to_json(config)), config)


def test_a_layout_that_cannot_express_a_network_is_refused():
    capped = dataclasses.replace(LLAMA, final_softcap=30.0)
    with pytest.raises(ValueError, match=r"'llama' cannot express the values of final_softcap;"):
        config_to_json(capped)
    with pytest.raises(ValueError, match="num_kv_heads"):
        config_to_json(dataclasses.replace(GPT2, num_kv_heads=2))
    with pytest.raises(ValueError, match=r"unknown family 'bert'; give config.family one of"):
        config_to_json(dataclasses.replace(LLAMA, family="bert"))
