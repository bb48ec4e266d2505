"""Facts without the few long ones."""

import pytest

from modeledit_jax.data.facts.lengths import question_size, without_long
from modeledit_jax.data.facts.records import EditRecord, Probe
from modeledit_jax.data.facts.tokenization import word_tokenizer

TOKENIZER = word_tokenizer(["a b"])


def fact(prompt=1, rephrase=1, probe=1):
    return EditRecord(
        "a", "a " * prompt, "b", None, ("a " * rephrase,), (Probe("a " * probe, "b b"),)
    )


FACTS = [fact(), fact(rephrase=9), fact(2), fact(probe=7), fact(3)]


@pytest.mark.parametrize(
    ("share", "kept", "longest"),
    [
        (0.2, [0], 3),
        (0.4, [0, 2], 3),
        (0.6, [0, 2, 4], 4),
        (0.8, [0, 2, 3, 4], 9),
        (1.0, range(5), 10),
    ],
)
def test_a_share_of_the_facts_stays(share, kept, longest):
    """A beginning token, the prompt's words, and all of the answer but its last token."""
    found, limit = without_long(FACTS, TOKENIZER, share)
    assert set(found) >= {FACTS[index] for index in kept} and list(found) == [
        one for one in FACTS if one in found
    ]
    assert limit == longest


def test_of_no_facts_none_stay():
    assert without_long((), TOKENIZER, 0.8) == ((), 0)


def test_the_size_of_a_question_is_that_of_its_row():
    """A beginning token, the words of the prompt, and all of the answer but its last token."""
    assert question_size("a b a", "b b", TOKENIZER, 6, 5) == (5, 2)
    assert question_size("a b a", "b b", TOKENIZER, 5, 5) == (5, 2)


@pytest.mark.parametrize(
    ("answer", "context", "vocabulary"), [("b b", 4, 5), ("", 6, 5), ("b b", 6, 4)]
)
def test_a_question_that_cannot_be_asked_has_no_size(answer, context, vocabulary):
    """Beyond the context, without an answer, of a word that is not embedded."""
    assert question_size("a b a", answer, TOKENIZER, context, vocabulary) is None
