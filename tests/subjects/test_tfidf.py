import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from modeledit_jax.data.comments.synthetic import identity_corpus
from modeledit_jax.subjects.tfidf import tfidf_scores


@pytest.fixture(scope="module")
def data():
    return identity_corpus(train=3_000, validation=600, test=1_000)


def test_token_ids_give_the_scores_of_the_text(data):
    train, test = data.roles["train"], data.roles["test"]
    text = [
        [" ".join(data.vocabulary[token] for token in row if token) for row in comments.tokens]
        for comments in (train, test)
    ]
    vectorizer = TfidfVectorizer(token_pattern=r"\S+")
    model = LogisticRegression(tol=1e-8, max_iter=1000)
    model.fit(vectorizer.fit_transform(text[0]), train.label)
    (scores,) = tfidf_scores(train.tokens, train.label, test.tokens)
    np.testing.assert_allclose(
        scores, model.decision_function(vectorizer.transform(text[1])), atol=1e-3
    )


def test_it_finds_the_cues_and_scores_any_number_of_sets(data):
    train, test = data.roles["train"], data.roles["test"]
    templates = data.suites["templates_test"]
    scores, on_templates, again = tfidf_scores(
        train.tokens,
        train.label,
        test.tokens,
        templates.tokens,
        np.pad(test.tokens, ((0, 0), (0, 3))),
    )
    assert roc_auc_score(test.label, scores) > 0.9
    assert on_templates.shape == templates.label.shape
    np.testing.assert_array_equal(again, scores)


def test_balanced_classes_weigh_the_same(data):
    train, test = data.roles["train"], data.roles["test"]
    rows = np.flatnonzero((train.label == 0) | (np.arange(len(train)) % 5 == 0))
    (plain,) = tfidf_scores(train.tokens[rows], train.label[rows], test.tokens)
    (even,) = tfidf_scores(train.tokens[rows], train.label[rows], test.tokens, balanced=True)
    assert even.mean() > plain.mean() + 0.5
