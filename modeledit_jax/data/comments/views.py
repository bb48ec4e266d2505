"""What a classifier sees of comments whose tokens are numbers of whole texts (`TextEncoder`).

One data set of texts serves every kind of classifier: words of the vocabulary of ``train``, or
features of any kind, which are standardized by their mean and deviation in ``train``.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32

from modeledit_jax.data.comments.comments import PAD, UNKNOWN, CommentData, Comments
from modeledit_jax.data.comments.text import Vocabulary


def texts_of(data: CommentData) -> tuple[str, ...]:
    """The texts of a data set, in the order of their numbers.

    Raises:
      ValueError: its tokens are not numbers of texts.
    """
    parts = [part for kind in _kinds(data) for part in kind.values()]
    if any(part.tokens.ndim != 2 or part.tokens.shape[1] != 1 for part in parts):
        raise ValueError(
            f"the tokens of {data.name} are no numbers of texts: load it with contexts"
        )
    return data.vocabulary[UNKNOWN + 1 :]


def with_words(data: CommentData, length: int = 200) -> CommentData:
    """The data set as token ids of words; the vocabulary is that of ``train``."""
    texts = texts_of(data)
    train = data.roles["train"].tokens[:, 0] - UNKNOWN - 1
    vocabulary = Vocabulary.build([texts[number] for number in train])
    seen = _seen(data, vocabulary.encode(texts, length))
    unknown = [term for term in data.identities if term not in vocabulary]
    note = f"identity terms that are unknown words to the classifier: {', '.join(unknown)}"
    notes = (*data.notes, note) if unknown else data.notes
    return replace(seen, vocabulary=vocabulary.words, notes=notes)


def with_features(data: CommentData, features: Float[np.ndarray, "texts f"]) -> CommentData:
    """The data set as features ``[N, F]`` float32, standardized by those of ``train``.

    Args:
      data: see above.
      features: of `texts_of`; a feature that does not vary in ``train`` becomes 0.
    """
    mean, scale = scaling(data, features)
    return replace(_seen(data, ((features - mean) * scale).astype(np.float32)), vocabulary=())


def with_layer(
    data: CommentData,
    states: Float[np.ndarray, "texts f"],
    inputs: Float[np.ndarray, "texts d"],
    kernel: Float[np.ndarray, "d f"],
) -> tuple[CommentData, Float32[np.ndarray, " f"]]:
    """The data set as ``[r, a]`` (`subjects.state_classifier`), and the scale of the states.

    Args:
      data: as `with_features`.
      states: of `texts_of`, with what the layer has added, ``a W``.
      inputs: ``a``.
      kernel: ``W``.

    Returns:
      Features ``[N, F + D]`` float32: the states without ``a W``, so shifted and scaled that the
      states are standardized as by `with_features`, and ``a``.
    """
    mean, scale = scaling(data, states)
    below = (states.astype(np.float64) - inputs.astype(np.float64) @ kernel - mean) * scale
    table = np.concatenate([below.astype(np.float32), inputs.astype(np.float32)], axis=1)
    return replace(_seen(data, table), vocabulary=()), scale.astype(np.float32)


def scaling(
    data: CommentData, features: Float[np.ndarray, "texts f"]
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Mean of features in ``train``, and what they are multiplied by to have a deviation of 1."""
    if len(features) != len(texts_of(data)):
        raise ValueError(
            f"{len(features)} rows of features for {len(texts_of(data))} texts: give one for each"
        )
    train = features[data.roles["train"].tokens[:, 0] - UNKNOWN - 1]
    deviation = train.std(axis=0)
    varies = deviation > 1e-6 * np.abs(train).max(initial=0.0)
    return train.mean(axis=0), np.where(varies, 1.0 / np.where(varies, deviation, 1.0), 0.0)


def _seen(data: CommentData, table: np.ndarray) -> CommentData:
    """Every text's row of a table in place of its number."""
    assert PAD < UNKNOWN

    def see(named: Mapping[str, Comments]) -> dict[str, Comments]:
        return {
            name: replace(part, tokens=table[part.tokens[:, 0] - UNKNOWN - 1])
            for name, part in named.items()
        }

    roles, counterfactuals, suites, added = map(see, _kinds(data))
    return replace(data, roles=roles, counterfactuals=counterfactuals, suites=suites, added=added)


def _kinds(data: CommentData) -> tuple[Mapping[str, Comments], ...]:
    return data.roles, data.counterfactuals, data.suites, data.added


View = Callable[[CommentData], CommentData]
"""`with_words`, or `with_features` of some features."""
