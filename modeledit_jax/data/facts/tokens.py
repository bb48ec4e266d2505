"""Batches of tokenized prompts with the tokens to be predicted after them."""

from collections.abc import Sequence

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

    @property
    def scored(self) -> Array:
        """``[..., n, l]`` bool: the positions whose prediction counts."""
        return self.labels != IGNORED


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
