"""From strings to `TokenBatch`: prompts with answers, whole sentences, where a subject ends.

Token positions are those of MALMEN and RLEdit: a space precedes the answer, the prompt is encoded
with the tokenizer's special tokens (e.g. a beginning-of-sequence token) and the answer without.
Any `tokenizers.Tokenizer` will do, so also that of a published model.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch, bucket, pad_batch
from modeledit_jax.types import Array, Field


def encode_answers(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer: Tokenizer,
    *,
    length: int | None = None,
    context: int | None = None,
) -> TokenBatch:
    """Encodes prompts and the answers to be predicted after them.

    Args:
      prompts, answers: as many of each; a space is put between the two.
      length: positions to pad to; the bucket of the longest row if None.
      context: positions of the model; a row that needs more is an error.

    Returns:
      ``[n, l]``, rows in the order of ``prompts``.

    Raises:
      ValueError: a row is empty, or longer than ``length`` or ``context``; the row is named.
    """
    pairs = [
        (_ids(tokenizer, prompt), _ids(tokenizer, f" {answer}", specials=False))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    needed = [len(prompt) + len(answer) - 1 for prompt, answer in pairs]
    if context is not None:
        for row, size in enumerate(needed):
            if size > context:
                raise ValueError(
                    f"row {row}, {prompts[row]!r} with its answer {answers[row]!r}, takes {size} "
                    f"positions, the model has {context}: leave it out or take a longer context"
                )
        length = length or min(bucket(max(needed)), context)
    return pad_batch([prompt for prompt, _ in pairs], [answer for _, answer in pairs], length)


def encode_sentences(
    sentences: Sequence[str],
    tokenizer: Tokenizer,
    *,
    length: int | None = None,
    context: int | None = None,
) -> TokenBatch:
    """Encodes sentences in which every token after the first is to be predicted.

    For training a language model and for perplexity. Arguments and errors are those of
    `encode_answers`; a sentence must have two tokens, special ones included.
    """
    rows = [_ids(tokenizer, sentence) for sentence in sentences]
    longest = max(map(len, rows))
    if context is not None:
        if longest - 1 > context:
            row = [len(ids) == longest for ids in rows].index(True)
            raise ValueError(
                f"row {row}, {sentences[row]!r}, takes {longest - 1} positions, the model has "
                f"{context}: leave it out or take a longer context"
            )
        length = length or min(bucket(longest - 1), context)
    return pad_batch([ids[:1] for ids in rows], [ids[1:] for ids in rows], length)


def split_batches(batch: TokenBatch, size: int) -> TokenBatch:
    """Splits ``[n, l]`` into ``[t, size, l]``, ``t = ⌈n / size⌉``, for `jax.lax.map` or ``scan``.

    The last batch is filled up with rows that have neither labels nor attention.

    Raises:
      ValueError: ``size`` is not positive.
    """
    return TokenBatch(
        tokens=split_rows(batch.tokens, size, 0),
        attention=split_rows(batch.attention, size, False),
        labels=split_rows(batch.labels, size, IGNORED),
    )


def split_rows(array: Field, size: int, filling: int) -> Array:
    """Splits the leading axis ``n`` into ``[⌈n / size⌉, size]``, filled up with one value.

    Raises:
      ValueError: ``size`` is not positive.
    """
    if size < 1:
        raise ValueError(f"batches of {size} rows: give at least one")
    room = ((0, -array.shape[0] % size), *((0, 0),) * (array.ndim - 1))
    filled = np.pad(array, room, constant_values=filling)
    return jnp.asarray(filled.reshape(-1, size, *array.shape[1:]))


def subject_last(prompt: str, subject: str, tokenizer: Tokenizer) -> int:
    """Position, in the encoded prompt, of the last token of the subject's first occurrence.

    Read from the tokenizer's character offsets. (MEMIT adds the lengths of separately encoded
    pieces, which is off by one with tokenizers that begin a sequence with a special token.)

    Raises:
      ValueError: the prompt does not contain the subject.
    """
    start = prompt.find(subject)
    if start < 0 or not subject:
        raise ValueError(
            f"the subject {subject!r} is not in the prompt {prompt!r}: spell it as in the prompt"
        )
    end = start + len(subject)
    offsets = tokenizer.encode(prompt).offsets
    # Special tokens have empty spans; of several tokens in one character, the last one counts.
    return max(place for place, (low, high) in enumerate(offsets) if low < high and low < end)


def _ids(tokenizer: Tokenizer, text: str, specials: bool = True) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=specials).ids
