"""Places of terms in real texts, by hand; draws that no order of the texts changes."""

import numpy as np
import pytest

from modeledit_jax.data.comments.contexts import (
    DEEPEST,
    Context,
    draw_contexts,
    every_term,
    fill,
    mention_contexts,
    slot_contexts,
    some_terms,
    window_contexts,
)
from modeledit_jax.data.comments.person_words import PERSON_NOUNS, PERSON_WORDS
from modeledit_jax.data.comments.terms import DIXON_TERMS
from modeledit_jax.data.comments.text import find_identities, tokenize

TERMS = ("gay", "african", "african american", "old")


def labels(texts):
    return np.arange(len(texts)) % 2


def test_a_mention_is_swapped_whatever_its_words():
    texts = ["He is GAY, you know.", "An African   American writer", "old gay men", "nothing here"]
    found = mention_contexts(texts, labels(texts), TERMS)
    assert [context("old") for context in found] == ["He is old, you know.", "An old writer"]
    assert [context.label for context in found] == [0, 1]


def test_a_term_is_inserted_before_nouns_of_persons():
    texts = ["These People like a person", "old people", "no one"]
    found = slot_contexts(texts, labels(texts), TERMS)
    assert [context("gay") for context in found] == [
        "These gay People like a person",
        "These People like a gay person",
    ]


def test_an_article_goes_with_the_term():
    context = Context("I saw A ", " man", 0)
    assert context("old") == "I saw An old man" and context("gay") == "I saw A gay man"
    assert Context("i am an ", "", 0)("gay") == "i am a gay"
    assert Context("Canada ", " man", 0)("old") == "Canada old man"
    keys = {Context(f"I  am {article} ", " Man!", 0).key for article in ("a", "AN")}
    assert keys == {("i am a", "man")}


def test_places_far_behind_are_left_out():
    near, far = (" ".join(["so"] * n + ["old", "man"]) for n in (DEEPEST, DEEPEST + 1))
    found = mention_contexts([near, far], np.zeros(2, int), TERMS)
    assert [context("gay") for context in found] == [near.replace("old", "gay")]
    near, far = (" ".join(["so"] * n + ["man"]) for n in (DEEPEST, DEEPEST + 1))
    assert len(slot_contexts([near, far], np.zeros(2, int), TERMS)) == 1


def test_windows_are_words_of_their_context():
    whole = Context("One two, three four ", " man of six seven eight", 1)
    sizes = set()
    for seed in range(30):
        (window,) = window_contexts([whole], seed)
        assert whole.before.endswith(window.before) and whole.after.startswith(window.after)
        assert window.label == 1
        sizes.add((len(tokenize(window.before)), len(tokenize(window.after))))
        assert window("old").split("old") == [window.before, window.after]
    assert {n for size in sizes for n in size} == {1, 2, 3} and len(sizes) > 4
    assert window_contexts([Context("", "!", 0)], 0) == []


def test_a_draw_is_balanced_by_seed_and_without_what_is_used():
    contexts = [Context(f"w{'x' * i} ", " man", int(i >= 8)) for i in range(12)]
    found, overlap = draw_contexts(contexts, 6, 0)
    assert sum(context.label for context in found) == 3 and overlap == 0
    assert draw_contexts(contexts[::-1], 6, 0)[0] == found
    assert draw_contexts(contexts, 6, 1)[0] != found
    used = {context.key for context in found}
    rest, overlap = draw_contexts(contexts, 99, 0, used)
    assert overlap == 6 and len(rest) == 6 and not used & {context.key for context in rest}
    twice = [contexts[0], Context(contexts[0].before.upper(), " MAN", 1)]
    assert draw_contexts(twice, 9, 0)[0] == contexts[:1]


def test_shown_terms_and_other_words():
    contexts = [Context("a ", " man", 0)] * 50
    found = some_terms(contexts, [0, 2, 3, 5], terms=6, others=4, each=2, seed=0)
    assert found.shape == (50, 4) and found.dtype == np.int32
    assert set(found[:, :2].ravel()) == {0, 2, 3, 5} and set(found[:, 2:].ravel()) == {6, 7, 8, 9}
    assert all(len(set(row)) == 4 for row in found.tolist())
    other = some_terms(contexts, [0, 1, 3, 5], terms=6, others=4, each=2, seed=0)
    np.testing.assert_array_equal(found[:, 2:], other[:, 2:])  # folds share their other words
    with pytest.raises(ValueError, match="1 identity terms and 4 other words for 2 of each"):
        some_terms(contexts, [0], 6, 4, 2, 0)


def test_filled_texts_stand_context_after_context():
    contexts = [Context("a ", " man", 0), Context("", " men", 1)]
    texts = fill(contexts, every_term(contexts, range(2)), ("gay", "old"))
    assert texts == ["a gay man", "an old man", "gay men", "old men"]


def test_person_words_are_no_terms():
    assert len(set(PERSON_WORDS)) == len(PERSON_WORDS) > 150
    assert not find_identities([tokenize(word) for word in PERSON_WORDS], DIXON_TERMS).any()
    assert not set(PERSON_NOUNS) & set(DIXON_TERMS)
