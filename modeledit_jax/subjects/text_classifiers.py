"""Toxicity classifiers on token ids, with the dense layers of `classifiers`: … → 128 → 32 → 1.

They give one logit, positive for toxic. Tokens are padded with `PAD`, which has no influence: a
comment scores the same whatever the padding, and a comment without words gets a finite score.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32, Int

from modeledit_jax.data.comments.comments import PAD
from modeledit_jax.subjects.fixed_array import FixedArray
from modeledit_jax.subjects.image_classifiers import dense_layers
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.types import Array

TRAINING: dict[str, TrainingConfig] = {
    "boe": TrainingConfig(epochs=20, batch_size=128, learning_rate=3e-3, weight_decay=1e-3),
    "cnn": TrainingConfig(epochs=5, batch_size=128, learning_rate=1e-3, weight_decay=1e-4),
}
"""How networks with pretrained word vectors are trained on some ten thousand comments."""

LEARNED: dict[str, Any] = {"epochs": 5, "batch_size": 64}
"""What changes where a network has to learn its word vectors from a few thousand comments."""


class BagOfEmbeddings(nn.Module):
    """Mean of the ``embedding`` of a comment's words, then ``fc1``, ``fc2``, …, ``head``.

    With ``vectors`` the embedding is theirs and is not trained, as in Dixon et al. 2018.
    """

    vocab_size: int
    features: int = 64
    hidden: tuple[int, ...] = (128, 32)
    vectors: FixedArray | None = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "n length"]) -> Float[Array, "n 1"]:
        words = _embed(self.vocab_size, self.features, self.vectors, tokens)
        count = (tokens != PAD).sum(axis=1, keepdims=True)
        return dense_layers(words.sum(axis=1) / jnp.maximum(count, 1), self.hidden, 1)


class TextCNN(nn.Module):
    """``embedding``, convolution ``conv1`` over windows of words, maximum, dense layers.

    The network of Dixon et al. 2018, with one convolution in place of three and small enough for a
    CPU. The convolution is a dense layer on unfolded windows for the reasons given at
    `modeledit_jax.subjects.image_classifiers.CNN`.
    """

    vocab_size: int
    features: int = 32
    channels: int = 64
    width: int = 5
    hidden: tuple[int, ...] = (128, 32)
    vectors: FixedArray | None = None

    @nn.compact
    def __call__(self, tokens: Int[Array, "n length"]) -> Float[Array, "n 1"]:
        words = _embed(self.vocab_size, self.features, self.vectors, tokens)
        before = (self.width - 1) // 2
        words = jnp.pad(words, ((0, 0), (before, self.width - 1 - before), (0, 0)))
        places = range(self.width)
        length = tokens.shape[1]
        windows = jnp.concatenate([words[:, i : i + length] for i in places], axis=-1)
        activations = nn.relu(nn.Dense(self.channels, name="conv1")(windows))
        # Activations are not negative, so zero at the padded places leaves the maximum alone.
        pooled = (activations * (tokens != PAD)[..., None]).max(axis=1)
        return dense_layers(pooled, self.hidden, 1)


def _embed(vocab_size: int, features: int, vectors: FixedArray | None, tokens: Array) -> Array:
    """Vectors ``[n, length, features]`` of a table ``embedding``; zeros at the padded places."""
    # A small start: training decides what a rare word does, not the draw of its vector, and a word
    # that never occurs does next to nothing.
    start = nn.initializers.normal(0.05)
    if vectors is not None:
        features = vectors.values.shape[1]
        start = nn.initializers.constant(jnp.asarray(vectors.values))
    table = nn.Embed(vocab_size, features, embedding_init=start, name="embedding")
    words = table(tokens) if vectors is None else jax.lax.stop_gradient(table(tokens))
    return words * (tokens != PAD)[..., None]


_CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {"boe": BagOfEmbeddings, "cnn": TextCNN}


def make_text_classifier(
    name: str, vocab_size: int, vectors: Float32[np.ndarray, "words features"] | None = None
) -> nn.Module:
    """Returns the classifier ``"boe"`` (bag of embeddings) or ``"cnn"``.

    Args:
      name: see above.
      vocab_size: number of token ids.
      vectors: pretrained, one for every token id, taken as they are; None: learned.

    Raises:
      ValueError: unknown name (the message lists the known ones), or vectors of another vocabulary.
    """
    if name not in _CLASSIFIERS:
        raise ValueError(f"unknown subject {name!r}; choose one of {', '.join(_CLASSIFIERS)}")
    if vectors is not None and len(vectors) != vocab_size:
        raise ValueError(
            f"{len(vectors)} word vectors for {vocab_size} token ids: give one vector for each"
        )
    table = None if vectors is None else FixedArray(vectors)
    return _CLASSIFIERS[name](vocab_size, vectors=table)
