"""Token positions against a literal construction of MALMEN's and RLEdit's.

What tokenizers do to the text around prompt and answer is tested in `test_token_ids`; here, that
all ways from text to batches pass there, and what is refused: no texts or one where a list is
expected, unequal numbers, empty answers, tokens that the network does not embed, lengths beyond
its context.
"""

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
from tests.data.facts.published_tokenizers import FACTS, llama_2, several_in_front

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


@pytest.mark.parametrize("make", [llama_2, several_in_front])
def test_rows_are_those_of_the_whole_text(make):
    tokenizer = make()
    batch = encode_answers(*zip(*FACTS, strict=True), tokenizer)
    for row, (prompt, answer) in enumerate(FACTS):
        whole = tokenizer.encode(f"{prompt} {answer}")
        behind = whole.special_tokens_mask[::-1].index(0)
        ids = whole.ids[: len(whole.ids) - behind]
        size = int(batch.attention[row].sum())
        np.testing.assert_array_equal(batch.tokens[row, :size], ids[:-1])
        labels = np.asarray(batch.labels[row])
        np.testing.assert_array_equal(labels[labels != IGNORED], ids[-(labels != IGNORED).sum() :])
        assert tokenizer.decode(labels[labels != IGNORED].tolist()) == answer


def test_padding_and_truncation_of_the_tokenizer_change_nothing():
    plain, padded = llama_2(), llama_2()
    padded.enable_padding(length=60, direction="left")
    padded.enable_truncation(4)
    prompts, answers = zip(*FACTS, strict=True)
    expected = encode_answers(prompts, answers, plain), encode_sentences(prompts, plain)
    found = encode_answers(prompts, answers, padded), encode_sentences(prompts, padded)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    for prompt in prompts:
        subject = prompt.split()[-2]
        assert subject_last(prompt, subject, padded) == subject_last(prompt, subject, plain)


def test_the_subject_is_found_in_a_prompt_that_ends_with_it_and_a_space():
    assert subject_last("the twin of Lyon ", "Lyon ", BYTES) == subject_last(
        "the twin of Lyon", "Lyon", BYTES
    )


def test_more_positions_than_the_largest_bucket_fit_a_context_that_has_them():
    long = "is " * 1100
    assert encode_answers([long], ["is"], WORDS, context=4096).tokens.shape == (1, 2048)
    assert encode_answers([long], ["is"], WORDS, context=1500).tokens.shape == (1, 1500)
    with pytest.raises(ValueError, match="takes 1101 positions, the model has 1100"):
        encode_answers([long], ["is"], WORDS, context=1100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode_answers([], [], WORDS), "prompts is empty: give at least one text"),
        (lambda: encode_answers("Lyon", ["is"], WORDS), "prompts is the one text 'Lyon': give a"),
        (lambda: encode_answers(["Lyon"], "i", WORDS), "answers is the one text 'i': give a list"),
        (lambda: encode_answers(["Lyon"], ["is"] * 2, WORDS), "1 prompts, 2 answers: give as many"),
        (lambda: encode_answers(["Lyon"], [" "], BYTES), "row 0 has an empty answer: ' ' adds no"),
        (lambda: encode_answers([""], ["is"], several_in_front()), None),
        (lambda: encode_sentences([], WORDS), "sentences is empty"),
        (lambda: encode_sentences(["Lyon is", ""], WORDS), "row 1, '', has 1 tokens, a sentence"),
        (
            lambda: encode_answers(["Lyon is", "Lyon"], ["city"] * 2, WORDS, vocabulary=6),
            r"row 0: 'Lyon is city' has the token '\w+', number \d+, and the network embeds 6",
        ),
        (
            lambda: encode_sentences([". is", "Lyon"], WORDS, vocabulary=9),
            r"row 1: 'Lyon' has the token 'Lyon', number 1\d, and the network embeds 9: resize",
        ),
    ],
)
def test_what_cannot_be_encoded_is_named(call, message):
    if message is None:  # special tokens in front are a prompt
        assert int(call().scored.sum()) > 0
        return
    with pytest.raises(ValueError, match=message):
        call()
