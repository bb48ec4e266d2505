"""Words, vocabulary and identity mentions against hand-made and brute-force references."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from modeledit_jax.data.comments.comments import PAD, UNKNOWN
from modeledit_jax.data.comments.terms import CIVIL_TERMS, DIXON_TERMS
from modeledit_jax.data.comments.text import (
    CommentEncoder,
    Vocabulary,
    decode,
    find_identities,
    mentions,
    tokenize,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, WORLD", ["hello", "world"]),
        ("don't can’t 'quoted'", ["don't", "can't", "quoted"]),
        ("'''Gay''' muslim-american's", ["gay", "muslim", "american", "'s"]),
        ("see http://a.org/gay?x=1 and www.b.net, (https://c.d) ok", ["see", "and", "ok"]),
        ("rock'n'roll it's 's-", ["rock'n'roll", "it", "'s", "'s"]),
        ("café 12a3b naïve_x", ["caf", "a", "b", "na", "ve", "x"]),
        (" 42 !? ", []),
        ("", []),
    ],
)
def test_tokenize(text, words):
    assert tokenize(text) == words


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="as'’ é_7.:/wWhtpİ", max_size=25))
def test_words_joined_by_spaces_are_the_same_words(text):
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words


def test_vocabulary_order_count_and_cap():
    texts = ["b b b a a c c", "d", "C e e"]  # c three times, with the capital
    vocabulary = Vocabulary.build(texts)
    assert vocabulary.words == ("<pad>", "<unknown>", "b", "c", "a", "e")
    assert vocabulary == Vocabulary.build(reversed(texts))
    assert Vocabulary.build(texts, max_words=2).words[2:] == ("b", "c")
    assert Vocabulary.build(texts, min_count=1).words[2:] == ("b", "c", "a", "e", "d")
    assert len(vocabulary) == 6 and vocabulary.ids["a"] == 4
    assert "a" in vocabulary and "a c" in vocabulary and "a d" not in vocabulary
    assert "<pad>" not in vocabulary and "<unknown>" not in vocabulary
    with pytest.raises(ValueError, match="none of 1 words occurs 2 times: give more texts"):
        Vocabulary.build(["once"])


def test_encode_by_hand():
    vocabulary = Vocabulary(("<pad>", "<unknown>", "a", "b"))
    tokens = vocabulary.encode(["b zzz a", "", "a a a a a"], length=4)
    np.testing.assert_array_equal(tokens, [[3, 1, 2, 0], [0, 0, 0, 0], [2, 2, 2, 2]])
    assert tokens.dtype == np.int32 and (PAD, UNKNOWN) == (0, 1)
    with pytest.raises(ValueError, match="length is 0"):
        vocabulary.encode(["a"], length=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=7), min_size=1, max_size=5))
def test_decode_inverts_encode_but_for_unknown_words(comments):
    vocabulary = Vocabulary(("<pad>", "<unknown>", "a", "b", "c"))
    tokens = vocabulary.encode([" ".join(words) for words in comments], length=5)
    expected = [" ".join(w if w in "abc" else "<unknown>" for w in words[:5]) for words in comments]
    assert decode(tokens, vocabulary.words) == expected


def test_decoded_comments_feed_tfidf():
    vocabulary = Vocabulary.build(["i am i am a", "a zebra"])
    texts = decode(vocabulary.encode(["I am a zebra", "a a i"]), vocabulary.words)
    vectorizer = TfidfVectorizer(token_pattern=r"\S+")
    assert vectorizer.fit_transform(texts).shape == (2, 4)
    assert set(vectorizer.get_feature_names_out()) == {"i", "am", "a", "<unknown>"}


def test_longest_identity_first_and_whole_words():
    terms = ("african", "american", "african american", "old", "gay")
    comments = [
        ["an", "african", "american", "gay", "american"],
        ["older", "african"],
        ["african", "old", "american"],
        ["african"],
        [],
    ]
    groups = find_identities(comments, terms)
    np.testing.assert_array_equal(
        groups, [[0, 1, 1, 0, 1], [1, 0, 0, 0, 0], [1, 1, 0, 1, 0], [1, 0, 0, 0, 0], [0] * 5]
    )
    assert groups.dtype == np.float32
    assert mentions(comments[0], terms) == [(1, 3, 2), (3, 4, 4), (4, 5, 1)]
    assert mentions(["old", "old"], terms) == [(0, 1, 3), (1, 2, 3)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["african", "american", "gay", "x"]), max_size=8))
def test_identities_equal_a_regular_expression_with_alternatives(words):
    terms = ("american", "gay", "african american", "african")
    longest_first = "|".join(sorted(terms, key=len, reverse=True))
    found = re.findall(rf"\b({longest_first})\b", " ".join(words))
    assert [terms[term] for _, _, term in mentions(words, terms)] == found
    np.testing.assert_array_equal(find_identities([words], terms)[0], [t in found for t in terms])


def test_encoder_scores_columns_but_looks_for_all_terms():
    vocabulary = Vocabulary.build(["gay american gay american man man"])
    terms = ("african american", "american", "gay")
    encoder = CommentEncoder(terms, (1, 2), 3, vocabulary)
    assert encoder.scored == ("american", "gay")
    label = np.array([1, 0, 1], np.int32)
    comments = encoder(["African American", "an American gay", "a b c gay"], label)
    # a longer term that is not scored still takes its words; what is cut off is not mentioned
    np.testing.assert_array_equal(comments.groups, [[0, 0], [1, 1], [0, 0]])
    assert comments.tokens.shape == (3, 3) and comments.blocks.shape == (0, 0)
    annotated = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]], np.float32)
    np.testing.assert_array_equal(
        encoder(["a", "b", "c"], label, annotated).groups, annotated[:, 1:]
    )


def test_term_lists_are_words_the_tokenizer_gives():
    assert len(DIXON_TERMS) == len(set(DIXON_TERMS)) == 50 and len(CIVIL_TERMS) == 9
    for term in (*DIXON_TERMS, *CIVIL_TERMS.values()):
        assert " ".join(tokenize(term)) == term
    assert Counter(len(term.split()) for term in DIXON_TERMS) == {1: 47, 2: 3}
