"""From strings to `TokenBatch`: prompts with answers, whole sentences, where a subject ends.

Any `tokenizers.Tokenizer` will do, so also that of a published model: how prompt and answer are put
together, and where the one ends, is in `token_ids`. For tokenizers of words and of bytes, as that
of GPT-2, token positions are those of MALMEN and RLEdit: a space precedes the answer, the prompt is
encoded with the tokenizer's special tokens (e.g. a beginning-of-sequence token) and the answer
without.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from modeledit_jax.data.facts.token_ids import (
    check_embedded,
    encode_text,
    join,
    plain_tokenizer,
    prompt_and_answer,
)
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch, pad_batch, padded_length
from modeledit_jax.types import Array, Field


def encode_answers(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer: Tokenizer,
    *,
    separator: str | None = None,
    length: int | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> TokenBatch:
    """Encodes prompts and the answers to be predicted after them.

    Args:
      prompts, answers: as many of each, at least one.
      tokenizer: its padding, truncation and dropout are ignored.
      separator: put between prompt and answer; None: a space where one is missing, see `token_ids`.
      length: positions to pad to; the bucket of the longest row if None.
      context: positions of the model; a row that needs more is an error.
      vocabulary: tokens that the model embeds; a row with a token beyond them is an error.

    Returns:
      ``[n, l]``, rows in the order of ``prompts``.

    Raises:
      ValueError: a row is empty, longer than ``length`` or ``context``, has a token beyond the
        ``vocabulary``, or cannot be read by the tokenizer; the row is named.
    """
    _check_texts({"prompts": prompts, "answers": answers})
    tokenizer = plain_tokenizer(tokenizer)
    rows = []
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        with _named(row):
            own, ids = prompt_and_answer(tokenizer, prompt, answer, separator)
            check_embedded(tokenizer, [*own, *ids], vocabulary, join(prompt, answer, separator))
        _check_row(row, (prompt, answer), (len(own), len(ids)), context)
        rows.append((own, ids))
    longest = max(len(own) + len(ids) - 1 for own, ids in rows)
    length = length or padded_length(longest, context)
    return pad_batch([own for own, _ in rows], [ids for _, ids in rows], length)


def encode_sentences(
    sentences: Sequence[str],
    tokenizer: Tokenizer,
    *,
    length: int | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> TokenBatch:
    """Encodes sentences in which every token after the first is to be predicted.

    For training a language model and for perplexity. Arguments and errors are those of
    `encode_answers`; a sentence must have two tokens, special ones included.
    """
    _check_texts({"sentences": sentences})
    tokenizer = plain_tokenizer(tokenizer)
    rows = []
    for row, sentence in enumerate(sentences):
        with _named(row):
            ids = encode_text(tokenizer, sentence).ids
            check_embedded(tokenizer, ids, vocabulary, sentence)
        if len(ids) < 2:
            raise ValueError(
                f"row {row}, {sentence!r}, has {len(ids)} tokens, a sentence needs two: "
                "leave it out"
            )
        if context is not None and len(ids) - 1 > context:
            raise ValueError(
                f"row {row}, {sentence!r}, takes {len(ids) - 1} positions, the model has "
                f"{context}: leave it out or take a longer context"
            )
        rows.append(ids)
    length = length or padded_length(max(map(len, rows)) - 1, context)
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
        places=None if batch.places is None else split_rows(batch.places, size, -1),
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


def subject_last(prompt: str, subject: str, tokenizer: Tokenizer, begin: int = 0) -> int:
    """Position, in the encoded prompt, of the last token of the subject's first occurrence.

    Characters before ``begin`` are not searched: a text in front may name the subject as well.

    Read from the tokenizer's character offsets. (MEMIT adds the lengths of separately encoded
    pieces, which is off by one with tokenizers that begin a sequence with a special token.)

    Raises:
      ValueError: the prompt does not contain the subject.
    """
    start = prompt.find(subject, begin)
    if start < 0 or not subject:
        raise ValueError(
            f"the subject {subject!r} is not in the prompt {prompt!r}: spell it as in the prompt"
        )
    end = start + len(subject)
    offsets = encode_text(plain_tokenizer(tokenizer), prompt.rstrip(" ")).offsets
    # Special tokens have empty spans; of several tokens in one character, the last one counts.
    places = [place for place, (low, high) in enumerate(offsets) if low < high and low < end]
    if not places:
        raise ValueError(f"the tokenizer leaves nothing of the subject {subject!r} in {prompt!r}")
    return places[-1]


def _check_row(
    row: int, texts: tuple[str, str], sizes: tuple[int, int], context: int | None
) -> None:
    """Raises ValueError unless prompt and answer have tokens, and no more than fit the context."""
    prompt, answer = texts
    if not sizes[0]:
        raise ValueError(f"row {row} has an empty prompt: {prompt!r} has no token, lengthen it")
    if not sizes[1]:
        raise ValueError(
            f"row {row} has an empty answer: {answer!r} adds no token to {prompt!r}; give it a "
            "text that the tokenizer knows"
        )
    size = sum(sizes) - 1
    if context is not None and size > context:
        raise ValueError(
            f"row {row}, {prompt!r} with its answer {answer!r}, takes {size} "
            f"positions, the model has {context}: leave it out or take a longer context"
        )


def _check_texts(given: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError unless each argument is a list of texts, one as long as the other."""
    for name, texts in given.items():
        if isinstance(texts, str):
            raise ValueError(f"{name} is the one text {texts!r}: give a list of texts")
        if not len(texts):
            raise ValueError(f"{name} is empty: give at least one text")
    counts = {name: len(texts) for name, texts in given.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ValueError(f"{found}: give as many of each")


@contextmanager
def _named(row: int) -> Iterator[None]:
    """Puts the number of the row in front of what is wrong with its text."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"row {row}: {error}") from error
