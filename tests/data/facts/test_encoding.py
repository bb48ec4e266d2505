"""Token positions against a literal construction of MALMEN's and RLEdit's."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.data.facts.encoding import (
    encode_answers,
    encode_sentences,
    split_batches,
    subject_last,
)
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer, word_tokenizer
from modeledit_jax.data.facts.tokens import IGNORED, bucket

SENTENCES = ["the mother tongue of Danielle Darrieux is French .", "Lyon's twin city is Beirut ."]
WORDS = word_tokenizer(SENTENCES)
BYTES = byte_pair_tokenizer(SENTENCES, 300)
TEXT = st.text("abz é'東", min_size=1, max_size=9)


def _reference(prompt, answer, tokenizer):
    """Inputs and labels of one sample, before padding."""
    tokenized = tokenizer.encode(prompt).ids
    answered = tokenizer.encode(" " + answer, add_special_tokens=False).ids
    return tokenized + answered[:-1], [IGNORED] * len(tokenized[1:]) + answered


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), extra=st.integers(0, 9))
def test_positions_are_those_of_the_reference_whatever_the_padding(rows, extra):
    longest = max(len(_reference(*row, BYTES)[0]) for row in rows)
    prompts, answers = zip(*rows, strict=True)
    batch = encode_answers(prompts, answers, BYTES, separator=" ", length=longest + extra)
    for row, (prompt, answer) in enumerate(rows):
        inputs, labels = _reference(prompt, answer, BYTES)
        padding = longest + extra - len(inputs)
        np.testing.assert_array_equal(batch.tokens[row], inputs + [0] * padding)
        np.testing.assert_array_equal(batch.labels[row], labels + [IGNORED] * padding)
        np.testing.assert_array_equal(
            batch.attention[row], [True] * len(inputs) + [False] * padding
        )


def test_the_bucket_is_that_of_the_longest_row_and_never_above_the_context():
    prompts, answers = ["the mother tongue of Lyon is"] * 2, ["French", "French French French"]
    assert encode_answers(prompts, answers, WORDS).tokens.shape == (2, bucket(8 + 2))
    assert encode_answers(prompts, answers, WORDS, context=10).tokens.shape == (2, 10)
    assert encode_answers(prompts[:1], answers[:1], WORDS).tokens.shape == (1, bucket(8))


def test_a_prompt_longer_than_the_context_is_named_with_the_cure():
    with pytest.raises(ValueError, match=r"row 1, 'the mother.*takes 8 positions.*has 7.*longer"):
        encode_answers(["Lyon", "the mother tongue of Lyon is Lyon"], ["is"] * 2, WORDS, context=7)
    with pytest.raises(ValueError, match=r"row 0, 'the twin city is.*takes 5 positions.*has 3"):
        encode_sentences(["the twin city is ."], WORDS, context=3)


def test_every_token_of_a_sentence_but_the_first_is_a_label():
    batch = encode_sentences(SENTENCES, WORDS, context=32)
    for row, sentence in enumerate(SENTENCES):
        ids = WORDS.encode(sentence).ids
        np.testing.assert_array_equal(batch.tokens[row, : len(ids) - 1], ids[:-1])
        np.testing.assert_array_equal(batch.labels[row, : len(ids) - 1], ids[1:])
        assert int(batch.scored[row].sum()) == int(batch.attention[row].sum()) == len(ids) - 1


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES], ids=["words", "bytes"])
@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("the mother tongue of Danielle Darrieux is", "Danielle Darrieux"),
        ("Lyon's twin city is", "Lyon"),
        ("Danielle", "Danielle"),
        ("the twin city of 東京 is", "東京"),
        ("Lyon and Lyon", "Lyon"),
    ],
)
def test_the_subject_ends_where_the_text_before_it_ends(tokenizer, prompt, subject):
    place = subject_last(prompt, subject, tokenizer)
    start, end = tokenizer.encode(prompt).offsets[place]
    last = prompt.index(subject) + len(subject)
    assert start < last <= end
    following = tokenizer.encode(prompt).offsets[place + 1 :]
    assert all(low >= last for low, _ in following)


def test_a_subject_that_is_not_in_the_prompt_is_an_error():
    for subject in ("lyon", ""):
        with pytest.raises(ValueError, match="is not in the prompt 'Lyon is': spell it as"):
            subject_last("Lyon is", subject, WORDS)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_splitting_keeps_the_rows_and_fills_up_with_rows_that_do_not_count(size):
    batch = encode_answers(["the", "Lyon", "city"], ["is"] * 3, WORDS)
    split = split_batches(batch, size)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), split)
    assert split.tokens.shape == (-(-3 // size), size, 8)
    for part in ("tokens", "attention", "labels"):
        np.testing.assert_array_equal(getattr(flat, part)[:3], getattr(batch, part))
    assert not flat.scored[3:].any() and not flat.attention[3:].any()
    with pytest.raises(ValueError, match="at least one"):
        split_batches(batch, 0)
