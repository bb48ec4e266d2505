"""A stream of facts and what is asked about it, as arrays: what every method gets and is judged by.

`modeledit_jax.run.edit_facts` runs methods on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from modeledit_jax.data.facts import common_knowledge
from modeledit_jax.data.facts.choices import ChoiceQuestion, encode_choices
from modeledit_jax.data.facts.encoding import encode_answers, encode_sentences, split_batches
from modeledit_jax.data.facts.questions import Questions
from modeledit_jax.data.facts.records import (
    EditRecord,
    EditRecords,
    FactBatch,
    Probe,
    encode_edits,
)
from modeledit_jax.data.facts.token_ids import plain_tokenizer
from modeledit_jax.data.facts.tokens import TokenBatch, check_tokens
from modeledit_jax.language.sharding import spread_rows
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.memory_plan import ScoringPlan, rows_at_once
from modeledit_jax.lifelong.model import EditableModel, check_facts
from modeledit_jax.mesh import mesh_of

Facts: TypeAlias = EditRecords | Sequence[EditRecord]


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
      questions: what is asked about ``edits``; empty: not `prepared` yet.
      contexts: texts that ``edits.contexts`` has in front of the prompts.
      known: questions ``[s, n, l]`` about further facts, which the model knows; None: not asked.
      choices: ``[o, s, n, l]`` of `encode_choices`; None: not asked.
      seconds_ahead: what it took to find ``edits.values``.
    """

    model: EditableModel
    edits: FactBatch
    train: FactBatch | None
    sentences: TokenBatch
    untouched: TokenBatch
    first: int
    questions: tuple[Questions, ...] = ()
    contexts: tuple[str, ...] = ()
    known: TokenBatch | None = None
    choices: TokenBatch | None = None
    seconds_ahead: float = 0.0
    scoring: ScoringPlan | None = None  # of `prepared`

    def __post_init__(self) -> None:
        """Raises ValueError for a token that the network has no embedding of."""
        for name, facts in (("edits", self.edits), ("train", self.train)):
            if facts is not None:
                check_facts(self.model, facts, name)
        vocabulary = self.model.config.vocab_size
        for name in ("sentences", "untouched", "known", "choices"):
            batch: TokenBatch | None = getattr(self, name)
            if batch is not None:
                check_tokens(batch, vocabulary, name)

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
    contexts: Sequence[str] = (),
    known: Sequence[Probe] = (),
    choices: Sequence[ChoiceQuestion] = (),
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
      contexts: texts to put in front of the prompts of ``edits`` (`sample_contexts`).
      known: questions about further facts that the model knows (`run.known_facts`); may be none.
      choices: questions with answers to choose from (`draw_choices`); may be none.
      seed: of the draw.

    Raises:
      ValueError: there is nothing to edit in, a text does not fit the context, or its tokens are
        none of the network's; the text is named.
    """
    edits, train = (facts.records if isinstance(facts, EditRecords) else facts
                    for facts in (edits, train))  # fmt: skip
    if not edits:
        raise ValueError("no facts to edit in: give at least one")
    first = _checked_first(first, len(edits))
    texts = _options_of_texts(model)
    # The facts first, so that of several texts that do not fit the user's own is named.
    options = {"batch_size": batch_size} | texts
    edited = encode_edits(edits, **options, contexts=contexts)
    learned = encode_edits(train, **options, **_draws(seed)) if train else None
    plain = encode_sentences(sentences, **texts)
    at_once = partial(rows_at_once, vocabulary=model.config.vocab_size)
    return FactTask(
        model.editable,
        edited,
        learned,
        split_batches(plain, at_once(plain.tokens.shape[-1])),
        _questions(untouched, texts),
        first,
        contexts=tuple(contexts),
        known=_questions(known, texts) if known else None,
        choices=encode_choices(choices, rows_at_once=at_once, **texts) if choices else None,
    )


def _options_of_texts(model: LanguageModel) -> dict[str, Any]:
    """Options of `encode_answers` and its like."""
    return {
        "tokenizer": plain_tokenizer(model.tokenizer),
        "context": model.config.context,
        "vocabulary": model.config.vocab_size,
    }


def _draws(seed: int) -> dict[str, Any]:
    """Which phrasings and probes are learned from."""
    generators = (np.random.default_rng([seed, index]) for index in range(2))
    return dict(zip(("rephrase", "locality"), generators, strict=True))


def _questions(probes: Sequence[Probe], texts: Mapping[str, Any]) -> TokenBatch:
    """Questions in batches, with `_options_of_texts`."""
    batch = encode_answers([p.prompt for p in probes], [p.answer for p in probes], **texts)
    return split_batches(batch, rows_at_once(batch.tokens.shape[-1], texts["vocabulary"]))


def _checked_first(first: int | None, edits: int) -> int:
    first = max(1, edits // 4) if first is None else first
    if not 1 <= first <= edits:
        raise ValueError(f"first must be 1…{edits}, the number of edits; got {first}")
    return first


def spread_task(task: FactTask) -> FactTask:
    """The task with its facts and questions on the devices that its model lies on.

    The facts of a batch are cut along ``data``, if the devices divide them.
    """
    mesh = mesh_of(task.model.params)
    if mesh is None:
        return task
    parts = ("edits", "train", "sentences", "untouched", "known", "questions")
    spread = {name: spread_rows(getattr(task, name), mesh, dimension=1) for name in parts}
    return replace(task, choices=spread_rows(task.choices, mesh, dimension=2), **spread)
