"""A stream of facts and what is asked about it, as arrays: what every method gets and is judged by.

`modeledit_jax.run.edit_facts` runs methods on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from modeledit_jax.data.facts import common_knowledge
from modeledit_jax.data.facts.encoding import encode_answers, encode_sentences, split_batches
from modeledit_jax.data.facts.records import (
    EditRecord,
    EditRecords,
    FactBatch,
    Probe,
    encode_edits,
)
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.model import EditableModel

Facts: TypeAlias = EditRecords | Sequence[EditRecord]

MOST_ROWS, MOST_LOGITS = 100, 2**25
"""Rows that are asked about at once: so many, and no more than make so many logits."""


@dataclass(frozen=True)
class FactTask:
    """What all methods share.

    Attributes:
      model: the unedited network.
      edits: ``[S, n, ...]``, what is edited in.
      train: ``[S', n, ...]``, what learned methods are trained on; None: nothing.
      sentences: ``[s, n, l]``, for perplexity.
      untouched: questions ``[s, n, l]`` that no edit concerns.
      first: edits from the start that retention is measured on.
    """

    model: EditableModel
    edits: FactBatch
    train: FactBatch | None
    sentences: TokenBatch
    untouched: TokenBatch
    first: int

    @property
    def streams(self) -> tuple[FactBatch, ...]:
        """All batches that a method meets."""
        return (self.edits,) if self.train is None else (self.edits, self.train)


def encode_task(
    model: LanguageModel,
    edits: Facts,
    train: Facts = (),
    *,
    batch_size: int = 10,
    sentences: Sequence[str] = common_knowledge.SENTENCES,
    untouched: Sequence[Probe] = common_knowledge.QUESTIONS,
    first: int | None = None,
    seed: int = 0,
) -> FactTask:
    """Encodes facts for a model.

    Methods learn from all phrasings and probes that they may see: one of each is drawn for every
    fact of ``train``. Edits are measured with the first rephrased prompt and the first probe.

    Args:
      model: whose tokenizer and context count.
      edits: facts to edit in, in this order.
      train: facts about other subjects.
      batch_size: ``n``, facts edited at once.
      sentences: for perplexity.
      untouched: questions that no edit concerns.
      first: edits from the start that retention is measured on; None: a quarter of all.
      seed: of the draw.

    Raises:
      ValueError: there is nothing to edit in, a text does not fit the context, or its tokens are
        none of the network's; the text is named.
    """
    edits, train = (facts.records if isinstance(facts, EditRecords) else facts
                    for facts in (edits, train))  # fmt: skip
    if not edits:
        raise ValueError("no facts to edit in: give at least one")
    first = max(1, len(edits) // 4) if first is None else first
    if not 1 <= first <= len(edits):
        raise ValueError(f"first must be 1…{len(edits)}, the number of edits; got {first}")
    _check_vocabulary(model, (*edits, *train))
    tokenizer, context = model.tokenizer, model.config.context
    options: dict[str, Any] = {"tokenizer": tokenizer, "context": context}
    options["batch_size"] = batch_size
    generators = (np.random.default_rng([seed, index]) for index in range(2))
    draws: dict[str, Any] = dict(zip(("rephrase", "locality"), generators, strict=True))
    plain = encode_sentences(sentences, tokenizer, context=context)
    questions = encode_answers(
        [probe.prompt for probe in untouched],
        [probe.answer for probe in untouched],
        tokenizer,
        context=context,
    )
    return FactTask(
        model.editable,
        encode_edits(edits, **options),
        encode_edits(train, **options, **draws) if train else None,
        split_batches(plain, _rows_at_once(plain, model.config.vocab_size)),
        split_batches(questions, _rows_at_once(questions, model.config.vocab_size)),
        first,
    )


def _rows_at_once(batch: TokenBatch, vocabulary: int) -> int:
    return max(1, min(MOST_ROWS, MOST_LOGITS // (batch.tokens.shape[-1] * vocabulary)))


def _check_vocabulary(model: LanguageModel, records: Sequence[EditRecord]) -> None:
    """Raises ValueError for a token that the network has no embedding of: it would make NaN."""
    tokenizer: Tokenizer = model.tokenizer
    if tokenizer.get_vocab_size() <= model.config.vocab_size:
        return
    for index, record in enumerate(records):
        texts = (record.prompt, *record.rephrases, record.target_new, record.target_true or "")
        probes = (text for probe in record.locality for text in (probe.prompt, probe.answer))
        for text in (*texts, *probes):
            encoded = tokenizer.encode(f" {text}")
            for token, word in zip(encoded.ids, encoded.tokens, strict=True):
                if token >= model.config.vocab_size:
                    raise ValueError(
                        f"record {index}: {text!r} has the token {word!r}, number {token}, and the "
                        f"network embeds {model.config.vocab_size}: resize its embeddings, or use "
                        "the tokenizer that it was trained with"
                    )
