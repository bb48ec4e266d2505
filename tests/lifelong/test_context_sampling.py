"""Texts sampled from the model that is to be edited."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.context_sampling import (
    BEGINNINGS,
    CHOICES,
    LENGTH,
    _continued,
    sample_contexts,
)
from modeledit_jax.lifelong.language_model import read_language_model
from tests.lifelong.folders import write_folder

KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return read_language_model(write_folder(tmp_path_factory.mktemp("network") / "llama"))


def test_every_token_is_among_the_most_probable(network):
    begins = jnp.zeros((4, LENGTH), jnp.int32).at[:, :2].set(jnp.array([[1, 5]]))
    given = jnp.array([2, 2, 1, 2])
    said = np.asarray(_continued(network.editable, begins, given, KEY))
    read = jax.jit(apply, static_argnums=0)
    logits = np.asarray(read(network.config, network.params, jnp.asarray(said))[0])
    assert (said[:, 0] == 1).all() and (said[given == 2, 1] == 5).all()
    taken = set()
    for row, tokens in enumerate(said):
        for place in range(int(given[row]), LENGTH):
            best = np.argsort(-logits[row, place - 1])[:CHOICES]
            assert tokens[place] in best
            taken.add(int(np.flatnonzero(best == tokens[place])[0]))
    assert len(taken) > 2  # drawn, not the best one always
    assert len({tuple(tokens) for tokens in said}) > 1


def test_texts_are_seeded_and_hold_no_special_tokens(network):
    found = sample_contexts(network, 7, KEY)
    assert found == sample_contexts(network, 7, KEY)
    assert found != sample_contexts(network, 7, jax.random.key(4))
    assert len(found) == 7 and sample_contexts(network, 0, KEY) == ()
    for text, begin in zip(found, [*BEGINNINGS, *BEGINNINGS[:2]], strict=True):
        assert text.startswith(begin) and text.endswith(". ")
        assert "<begin>" not in text and "\n" not in text


def test_a_model_without_room_is_refused(network):
    short = replace(network.editable, config=replace(network.config, context=8))
    with pytest.raises(ValueError, match="contexts have 10 tokens and the model 8 positions"):
        sample_contexts(replace(network, editable=short), 1, KEY)
