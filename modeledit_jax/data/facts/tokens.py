"""Batches of tokenized prompts with the tokens to be predicted after them."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax import struct
from modeledit_jax.types import Array, Field, PyTree

IGNORED = -100
"""Label of a position where nothing is scored (the convention of PyTorch and Hugging Face)."""

BUCKETS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Lengths batches are padded to, so that few shapes are compiled."""


@struct.dataclass
class TokenBatch:
    """``n`` prompts followed by their answers, padded on the right to one length ``l``.

    Labels are *pre-shifted*, as in MALMEN and RLEdit: ``labels[i, j]`` is predicted at position
    ``j``, whose input is ``tokens[i, j]``. A prompt of P tokens and an answer of A tokens fill
    P + A − 1 positions, for the last token of the answer is only ever predicted.
    """

    tokens: Field  # [..., n, l] int32; 0 where padded
    attention: Field  # [..., n, l] bool; False where padded
    labels: Field  # [..., n, l] int32; IGNORED where nothing is scored
    places: Field = None  # [..., n, p] int32: where labels are, −1 beyond them; None: anywhere
    hidden: Field = None  # [..., n, l, width] below the first edited layer; None: not known

    @property
    def scored(self) -> Array:
        """``[..., n, l]`` bool: the positions whose prediction counts."""
        return self.labels != IGNORED

    @property
    def answers(self) -> Array:
        """``[..., n, p]`` int32: the labels at ``places``; all labels if places are not known."""
        if self.places is None:
            return self.labels
        places = jnp.maximum(self.places, 0)
        labels = jnp.take_along_axis(jnp.asarray(self.labels), places, axis=-1)
        return jnp.where(self.places < 0, IGNORED, labels)

    @property
    def positions(self) -> Array | None:
        """``places``, with 0 for those that are none."""
        return None if self.places is None else jnp.maximum(self.places, 0)


def with_places(batch: TokenBatch) -> TokenBatch:
    """The batch with the places of its labels, so that nothing else has to be predicted.

    Room is made for the longest answer, in even numbers, so that fewer shapes are compiled; where
    labels fill more than half of the positions, as in whole sentences, nothing is gained and the
    batch is returned as it is. Needs values: not under `jax.jit`.
    """
    scored = np.asarray(batch.labels) != IGNORED
    longest = int(scored.sum(-1).max(initial=0))
    room = longest + longest % 2 if longest > 1 else 1
    if 2 * room > scored.shape[-1]:
        return batch
    places = np.argsort(~scored, axis=-1, kind="stable")[..., :room]
    there = np.take_along_axis(scored, places, axis=-1)
    return replace(batch, places=jnp.asarray(np.where(there, places, -1), jnp.int32))


def bucket(length: int, buckets: Sequence[int] = BUCKETS) -> int:
    """Returns the smallest bucket that holds ``length`` positions.

    Raises:
      ValueError: if none does.
    """
    for size in sorted(buckets):
        if length <= size:
            return size
    raise ValueError(
        f"a prompt and its answer take {length} positions, more than the largest bucket "
        f"{max(buckets)}; shorten the prompt or pass longer buckets"
    )


def padded_length(length: int, context: int | None = None) -> int:
    """Returns the positions to pad ``length`` to, at most the ``context`` that holds them.

    Raises:
      ValueError: without a context, if no bucket does.
    """
    if context is None:
        return bucket(length)
    largest = max(BUCKETS)
    steps = -(-length // largest) * largest  # beyond the buckets
    return min(bucket(length) if length <= largest else steps, context)


def values_known(tree: PyTree) -> bool:
    """Whether all arrays hold values: not so inside `jax.jit`, where nothing can be checked."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def check_tokens(batch: TokenBatch, vocabulary: int, name: str) -> None:
    """Checks that a network can read and predict every token of a batch ``[..., n, l]``.

    A token without an embedding, or a label without a logit, makes NaN of everything that is
    learned from it. Inside `jax.jit`, where no value is known, nothing is checked.

    Args:
      batch: of any leading axes.
      vocabulary: rows of the network's embedding.
      name: of the batch, for the message.

    Raises:
      ValueError: an attended token or a label is not in ``0 … vocabulary − 1``.
    """
    if not values_known(batch):
        return
    tokens, attention, labels = map(np.asarray, (batch.tokens, batch.attention, batch.labels))
    for ids, counted in ((tokens, attention), (labels, labels != IGNORED)):
        wrong = ids[counted & ((ids < 0) | (ids >= vocabulary))]
        if wrong.size:
            raise ValueError(
                f"{name} holds the token {wrong[0]}, and the network embeds 0 to {vocabulary - 1}: "
                "resize its embeddings, or use the tokenizer that it was trained with"
            )


def pad_batch(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], length: int | None = None
) -> TokenBatch:
    """Joins tokenized prompts and answers into one batch.

    Args:
      prompts: token ids of each prompt, special tokens included; not empty.
      answers: token ids of each answer, without special tokens; not empty.
      length: positions to pad to; the bucket of the longest row if None.

    Raises:
      ValueError: if a prompt or an answer is empty, or a row is longer than ``length``.
    """
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if not prompt or not answer:
            raise ValueError(f"row {row} has an empty {'answer' if prompt else 'prompt'}")
    longest = max(len(p) + len(a) - 1 for p, a in zip(prompts, answers, strict=True))
    length = bucket(longest) if length is None else length
    if longest > length:
        raise ValueError(f"a prompt and its answer take {longest} positions, more than {length}")
    tokens = np.zeros((len(prompts), length), np.int32)
    labels = np.full((len(prompts), length), IGNORED, np.int32)
    attention = np.zeros((len(prompts), length), bool)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        end = len(prompt) + len(answer) - 1
        tokens[row, :end] = [*prompt, *answer[:-1]]
        labels[row, len(prompt) - 1 : end] = answer
        attention[row, :end] = True
    return TokenBatch(jnp.asarray(tokens), jnp.asarray(attention), jnp.asarray(labels))
