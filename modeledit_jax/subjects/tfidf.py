"""The classifier to compare neural ones with: logistic regression on TF-IDF weights of words."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.data.comments.comments import PAD


def tfidf_scores(
    train_tokens: Int[np.ndarray, "n length"],
    label: Int[np.ndarray, " n"],
    *test_tokens: Int[np.ndarray, "_ _"],
    balanced: bool = False,
) -> tuple[Float[np.ndarray, " _"], ...]:
    """Fits scikit-learn's logistic regression (``C=1``) and scores further comments.

    Args:
      train_tokens: token ids, padded with `PAD`.
      label: 1 = toxic.
      *test_tokens: any number of arrays of token ids.
      balanced: weigh the comments so that both classes weigh the same.

    Returns:
      Of each of ``test_tokens`` the logits.
    """
    check_shapes(train_tokens=(train_tokens, "n l"), label=(label, "n"))
    check_integers(label=label)
    vectorizer = TfidfVectorizer(analyzer=_words)
    model = LogisticRegression(
        tol=1e-6, max_iter=1000, class_weight="balanced" if balanced else None
    )
    model.fit(vectorizer.fit_transform(train_tokens), label)
    return tuple(model.decision_function(vectorizer.transform(tokens)) for tokens in test_tokens)


def _words(tokens: Int[np.ndarray, " length"]) -> list[str]:
    return [str(token) for token in tokens if token != PAD]
