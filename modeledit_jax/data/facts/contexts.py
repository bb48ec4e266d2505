"""Prompts that a new answer has to come out of: the prompt alone, and the same after other texts.

ROME and MEMIT optimize an edit under several beginnings of a text, so that it holds wherever the
subject turns up, and watch what the network says about the subject alone (arXiv 2202.05262,
equation 4). The texts are put together before they are tokenized: after a full stop many tokenizers
begin the prompt with another token.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from modeledit_jax import struct
from modeledit_jax.data.facts.encoding import encode_answers, subject_last
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.types import Field

ESSENCE = " is"
"""What follows the subject in the row that shows what it is; "a" would come next."""


@struct.dataclass
class ContextBatch:
    """Rows of ``n`` facts, ``r`` of each: the prompt and its answer, the same after each of the
    ``r − 2`` contexts, and at last the subject alone, which has no label.

    Of a batch without contexts ``r`` is 1, and the one row is also the last (`bare_rows`).
    """

    rows: Field  # TokenBatch [..., n, r, l]
    subject: Field  # [..., n, r] int32 position of the subject's last token; −1: none

    @property
    def contexts(self) -> int:
        """How many there are beside the prompt alone."""
        return max(int(self.subject.shape[-1]) - 2, 0)

    @property
    def sizes(self) -> tuple[int, int]:
        """Tokens of the longest answer, and positions from a subject's last token to its end."""
        scored = np.asarray(self.rows.labels) != IGNORED
        ends = scored.shape[-1] - scored[..., ::-1].argmax(-1)
        windows = np.where(scored.any(-1), ends - np.asarray(self.subject), 0)
        return int(scored.sum(-1).max()), int(windows.max())

    def first(self, contexts: int) -> "ContextBatch":
        """The rows of a batch ``[n, r, l]`` with the first so many contexts alone."""
        kept = np.r_[0 : contexts + 1, -1]
        return jax.tree.map(lambda leaf: leaf[:, kept], self)


def bare_rows(batch: TokenBatch, subject: Field) -> ContextBatch:
    """A batch of prompts ``[n, l]`` without contexts, ``r = 1``; places ``[n]``."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[:, None], ContextBatch(batch, subject))


def check_contexts(contexts: Sequence[str]) -> None:
    """Raises ValueError unless these are texts, none of them empty."""
    if isinstance(contexts, str):
        raise ValueError(f"contexts is the one text {contexts!r}: give a list of texts")
    for index, context in enumerate(contexts):
        if not isinstance(context, str) or not context.strip():
            raise ValueError(
                f"context {index} is {context!r}: give a text to put in front of the prompts, the "
                "prompt alone is always there"
            )


def encode_contexts(
    prompts: Sequence[str],
    subjects: Sequence[str],
    answers: Sequence[str],
    contexts: Sequence[str],
    tokenizer: Tokenizer,
    *,
    length: int | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> ContextBatch:
    """Encodes facts with contexts in front of their prompts.

    Args:
      prompts, subjects, answers: ``n`` of each; an empty subject is in no place.
      contexts: ``r − 2`` texts, with all that stands between them and a prompt, e.g. ``"You
        can go. "``.
      tokenizer, length, context, vocabulary: as in `encode_answers`.

    Raises:
      ValueError: a context that is no text, a prompt that lacks its subject, or a row that does not
        fit the model with a context in front; the text is named.
    """
    check_contexts(contexts)
    texts, said, places = [], [], []
    for prompt, subject, answer in zip(prompts, subjects, answers, strict=True):
        for front in ("", *contexts):
            texts.append(front + prompt)
            said.append(answer)
            places.append(_place(front + prompt, subject, len(front), tokenizer))
        alone = subject or prompt
        texts.append(alone + ESSENCE)
        said.append("a")
        places.append(_place(alone + ESSENCE, subject, 0, tokenizer))
    try:
        flat = encode_answers(
            texts, said, tokenizer, length=length, context=context, vocabulary=vocabulary
        )
    except ValueError as error:
        raise ValueError(f"with contexts in front of the prompts, {error}") from error
    rows = jax.tree.map(lambda leaf: leaf.reshape(len(prompts), -1, leaf.shape[-1]), flat)
    rows = rows.replace(labels=rows.labels.at[:, -1].set(IGNORED))
    return ContextBatch(rows, np.array(places, np.int32).reshape(len(prompts), -1))


def _place(text: str, subject: str, begin: int, tokenizer: Tokenizer) -> int:
    return subject_last(text, subject, tokenizer, begin) if subject else -1
