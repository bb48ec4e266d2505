"""Pooled hidden states against the whole network, text after text."""

from dataclasses import replace
from functools import cache

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.common_knowledge import SENTENCES
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from modeledit_jax.language.model import apply
from modeledit_jax.language.parameters import stack_layers
from modeledit_jax.language.text_states import (
    TOKENS_AT_ONCE,
    _room,
    check_layer,
    lowest_layers,
    text_ids,
    text_states,
)
from tests.language.tiny_models import GPT2, LLAMA, VOCAB, random_params

START = 7
RNG = np.random.default_rng(0)
IDS = [[START, *RNG.integers(0, VOCAB, size).tolist()] for size in (3, 0, 9, 1, 5)]


@cache
def params(config):
    return random_params(config)


def states(config, layer, pooling="mean", start=True, weights=None):
    lower = lowest_layers(config, params(config) if weights is None else weights, layer)
    pooled, inputs = {}, {}
    for rows, found in text_states(config, lower, IDS, layer, pooling, start):
        pooled |= dict(zip(rows.tolist(), found.pooled, strict=True))
        inputs |= dict(zip(rows.tolist(), found.inputs, strict=True))
    order = range(len(IDS))
    return np.stack([pooled[i] for i in order]), np.stack([inputs[i] for i in order])


run = jax.jit(apply, static_argnames=("config", "capture"))


def whole(config, layer):
    """Residual stream after a layer and the input of its `mlp/down`, of every text, padded."""
    last = f"layers/{layer - 1}"
    tokens, attention = np.zeros((2, len(IDS), 12), np.int32)
    for row, ids in enumerate(IDS):
        tokens[row, : len(ids)], attention[row, : len(ids)] = ids, 1
    _, found = run(
        config, params(config), tokens, attention.astype(bool), capture=(last, f"{last}/mlp/down")
    )
    for row, ids in enumerate(IDS):
        yield tuple(np.asarray(found[name][row, : len(ids)]) for name in (last, f"{last}/mlp/down"))


def mean(rows):
    """Without the start, unless there is nothing else."""
    return rows[1:].mean(axis=0) if len(rows) > 1 else rows[0]


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_pooled_states_are_those_of_the_whole_network(config):
    pooled, inputs = states(config, 3)
    hidden, read = zip(*whole(config, 3), strict=True)
    np.testing.assert_allclose(pooled, [mean(h) for h in hidden], rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(inputs, [mean(a) for a in read], rtol=2e-4, atol=2e-5)


def test_the_last_token_and_texts_without_a_start():
    hidden, _ = zip(*whole(LLAMA, 2), strict=True)
    np.testing.assert_allclose(
        states(LLAMA, 2, "last")[0], [h[-1] for h in hidden], rtol=2e-4, atol=2e-5
    )
    np.testing.assert_allclose(
        states(LLAMA, 2, start=False)[0], [h.mean(axis=0) for h in hidden], rtol=2e-4, atol=2e-5
    )


def test_without_layers_it_is_the_mean_of_embeddings():
    table = np.asarray(params(LLAMA)["tokens"]["embedding"])
    pooled, inputs = states(LLAMA, 0)
    np.testing.assert_allclose(pooled, [mean(table[ids]) for ids in IDS], rtol=1e-5, atol=1e-6)
    assert inputs.shape == (len(IDS), 0)


def test_an_edit_of_the_last_kernel_needs_no_second_pass():
    pooled, inputs = states(LLAMA, 2)
    weights = jax.tree.map(lambda w: w, params(LLAMA))
    kernel = weights["layers"]["1"]["mlp"]["down"]["kernel"]
    change = 0.5 * jax.random.normal(jax.random.key(1), kernel.shape)
    weights["layers"]["1"]["mlp"]["down"]["kernel"] = kernel + change
    edited = states(LLAMA, 2, weights=weights)[0]
    np.testing.assert_allclose(edited, pooled + inputs @ np.asarray(change), rtol=2e-3, atol=2e-4)
    assert np.abs(edited - pooled).max() > 0.1


def test_a_pass_holds_all_of_its_rows():
    lengths = np.sort(RNG.integers(1, 60, 4_000))
    begin = 0
    while begin < len(lengths):
        room, size = _room(lengths[begin:], 64)
        assert lengths[begin : begin + size].max() <= room and room * size <= TOKENS_AT_ONCE
        assert room % 4 == 0
        begin += size


def test_ids_of_texts():
    tokenizer = byte_pair_tokenizer(SENTENCES, 400)
    (found, cut, empty) = text_ids(tokenizer, ["the dog", "the dog slept", ""], 2, START)
    assert found == [START, *tokenizer.encode("the dog", add_special_tokens=False).ids[:2]]
    assert len(cut) == 3 and empty == [START]
    for arguments, message in (
        ((["a"], 0, None), "length is 0"),
        ((["a", ""], 4, None), "the text '' has no token"),
    ):
        with pytest.raises(ValueError, match=message):
            text_ids(tokenizer, *arguments)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"layer 5 of a language model of 4 layers: choose 0 "):
        check_layer(LLAMA, 5)
    with pytest.raises(ValueError, match="17 tokens do not fit the context of 16"):
        next(text_states(LLAMA, params(LLAMA), [[1] * 17], 1))
    stacked = stack_layers(params(LLAMA))
    with pytest.raises(ValueError, match="unstack_layers"):
        lowest_layers(replace(LLAMA, scan_layers=True), stacked, 1)
