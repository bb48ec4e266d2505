"""How long the texts of facts are, and facts without the few long ones."""

from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from modeledit_jax.data.facts.records import EditRecord
from modeledit_jax.data.facts.token_ids import (
    check_embedded,
    join,
    plain_tokenizer,
    prompt_and_answer,
)


def without_long(
    records: Sequence[EditRecord], tokenizer: Tokenizer, share: float
) -> tuple[tuple[EditRecord, ...], int]:
    """The facts whose texts are no longer than those of a share of them.

    Every row of a batch is padded to the longest, which may be five times as long as most: what is
    learned from facts that are drawn from many costs less without these.

    Args:
      records: facts.
      tokenizer: of the model.
      share: of the facts that stay, at least.

    Returns:
      Those that stay, in their order, and the most tokens that one of their texts has.
    """
    if not records:
        return (), 0
    tokenizer = plain_tokenizer(tokenizer)
    lengths = np.array([max(_lengths(record, tokenizer)) for record in records])
    limit = int(np.quantile(lengths, share, method="inverted_cdf"))
    kept = tuple(r for r, length in zip(records, lengths, strict=True) if length <= limit)
    return kept, limit


def question_size(
    prompt: str, answer: str, tokenizer: Tokenizer, context: int, vocabulary: int
) -> tuple[int, int] | None:
    """Positions of a question and tokens of its answer; None if a network cannot be asked it.

    Args:
      prompt, answer: texts.
      tokenizer: of `plain_tokenizer`.
      context, vocabulary: positions and embeddings of the network.
    """
    try:
        own, ids = prompt_and_answer(tokenizer, prompt, answer, None)
        check_embedded(tokenizer, [*own, *ids], vocabulary, join(prompt, answer))
    except ValueError:
        return None
    size = len(own) + len(ids) - 1
    return (size, len(ids)) if own and ids and size <= context else None


def _lengths(record: EditRecord, tokenizer: Tokenizer) -> Iterator[int]:
    texts = [(record.prompt, record.target_new)]
    texts += [(prompt, record.target_new) for prompt in record.rephrases]
    texts += [(probe.prompt, probe.answer) for probe in record.locality]
    for prompt, answer in texts:
        own, ids = prompt_and_answer(tokenizer, prompt, answer, None)
        yield len(own) + len(ids) - 1
