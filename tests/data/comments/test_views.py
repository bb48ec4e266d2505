"""Words and features in place of numbers of texts."""

import numpy as np
import pytest

from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.text import CommentEncoder, TextEncoder, Vocabulary, tokenize
from modeledit_jax.data.comments.views import scaling, texts_of, with_features, with_words

TERMS = ("gay", "old")
LABEL = np.array([0, 1, 0], np.int32)
TEXTS = {"train": ["Gay men are men", "are they", "old men are"], "test": ["they are!", "are they"]}


@pytest.fixture
def data():
    encoder = TextEncoder(TERMS, (0, 1))
    roles = {role: encoder(texts, LABEL[: len(texts)]) for role, texts in TEXTS.items()}
    added = {"more": encoder(["men"], LABEL[:1])}
    return CommentData("toy", encoder.vocabulary, TERMS, (False, True), roles, {}, added=added)


def test_a_text_has_one_number(data):
    assert texts_of(data) == ("Gay men are men", "are they", "old men are", "they are!", "men")
    assert data.roles["train"].tokens.tolist() == [[2], [3], [4]]
    assert data.roles["test"].tokens.tolist() == [[5], [3]]
    np.testing.assert_array_equal(data.roles["train"].groups, [[1, 0], [0, 0], [0, 1]])


def test_words_are_those_of_the_vocabulary_of_train(data):
    words = with_words(data, 3)
    vocabulary = Vocabulary.build(TEXTS["train"])
    assert words.vocabulary == vocabulary.words
    encoder = CommentEncoder(TERMS, (0, 1), 3, vocabulary)
    for role, texts in TEXTS.items():
        expected = encoder(texts, LABEL[: len(texts)]).tokens
        np.testing.assert_array_equal(words.roles[role].tokens, expected)
    assert words.added["more"].tokens.tolist() == [[vocabulary.ids["men"], 0, 0]]
    assert "unknown words to the classifier: gay, old" in words.notes[-1]


def test_features_are_standardized_by_train(data):
    features = np.random.default_rng(0).normal(3.0, 2.0, (5, 4)).astype(np.float32)
    features[:3, 1] = 7.0
    seen = with_features(data, features)
    train = seen.roles["train"].tokens
    assert train.dtype == np.float32 and seen.vocabulary == ()
    np.testing.assert_allclose(train.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), [1, 0, 1, 1], atol=1e-5)
    mean, scale = scaling(data, features)
    np.testing.assert_allclose(
        seen.roles["test"].tokens[0], (features[3] - mean) * scale, rtol=1e-5
    )
    np.testing.assert_array_equal(seen.roles["test"].tokens[:, 1], 0.0)
    assert seen.fingerprint != data.fingerprint


def test_what_does_not_fit_is_refused(data):
    with pytest.raises(ValueError, match="4 rows of features for 5 texts"):
        with_features(data, np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="no numbers of texts"):
        texts_of(with_words(data))
    assert tokenize(texts_of(data)[0]) == ["gay", "men", "are", "men"]
