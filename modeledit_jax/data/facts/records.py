"""Facts to be edited: records of strings, and the same as batches ready for `jax.lax.scan`.

Every source (`fact_world`, `counterfact`, `zsre`) gives `EditRecord`s; `encode_edits` is the only
way from there to arrays, so all sources share token positions, choices and padding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int32
from tokenizers import Tokenizer

from modeledit_jax import struct
from modeledit_jax.data.facts.contexts import ContextBatch, encode_contexts
from modeledit_jax.data.facts.encoding import (
    encode_answers,
    split_batches,
    split_rows,
    subject_last,
)
from modeledit_jax.data.facts.token_ids import plain_tokenizer
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.types import Field

NEIGHBOUR, SAME_SUBJECT, UNRELATED = "neighbor", "same_subject", "unrelated"
"""Kinds of `Probe`: same relation and other subject; other relation; neither has to do with it."""


@dataclass(frozen=True)
class Probe:
    """A question whose answer an edit must not change."""

    prompt: str
    answer: str  # the true one
    kind: str = NEIGHBOUR


@dataclass(frozen=True)
class EditRecord:
    """One fact, what it is to become, and what tells whether the edit spread as it should.

    Attributes:
      subject: as spelled in ``prompt``; empty if the source does not say.
      prompt: text that the answer follows, e.g. ``"The mother tongue of Danielle Darrieux is"``.
      target_new: the answer after the edit.
      target_true: the answer before it; None where the source has no such answer.
      rephrases: other prompts for the same answer, to measure generalization.
      locality: at least one probe.
      relation: identifier, e.g. ``"P103"``; empty if the source does not say.
    """

    subject: str
    prompt: str
    target_new: str
    target_true: str | None
    rephrases: tuple[str, ...]
    locality: tuple[Probe, ...]
    relation: str = ""


@dataclass(frozen=True)
class EditRecords:
    """The records of one source in their own order."""

    name: str
    records: tuple[EditRecord, ...]
    notes: tuple[str, ...] = field(default=())  # what the reader of a report has to know

    def __len__(self) -> int:
        return len(self.records)


@struct.dataclass
class FactBatch:
    """``S`` batches of ``n`` edits (`encode_edits`); inside `jax.lax.scan` the axis S is gone.

    Row ``i`` of every part belongs to record ``i`` of the batch. The two parts of one stream, e.g.
    ``edit`` and ``edit_old``, have one length and differ from the answer on. Rows that fill up the
    last batch have no labels and no attention: `real` is False there.
    """

    edit: TokenBatch  # [S, n, l₁] the edit prompt and the new answer
    rephrase: TokenBatch  # [S, n, l₂] another prompt and the new answer
    locality: TokenBatch  # [S, n, l₃] a probe and its true answer
    edit_old: TokenBatch | None  # the edit prompt and the old answer; None: a record has none
    rephrase_old: TokenBatch | None  # the other prompt and the old answer
    locality_new: TokenBatch | None  # the probe and the new answer
    subject_last: Field  # [S, n] int32 position in `edit` of the subject's last token; −1: none
    contexts: ContextBatch | None = None  # [S, n, r, l₄] the edit prompt after other texts
    values: Field = None  # [S, n, width] float, of `StreamEditor.find_ahead`

    @property
    def batches(self) -> int:
        """S of a stream ``[S, n, ...]``."""
        return int(self.subject_last.shape[0])

    @property
    def real(self) -> jax.Array:
        """``[..., n]`` bool: rows that hold a record."""
        return self.edit.scored.any(axis=-1)


def keep_facts(facts: FactBatch, kept: Bool[jax.Array, "..."]) -> FactBatch:
    """The facts with those that are not ``kept`` (``[..., n]``) made rows that fill up, as if they
    had been left out."""

    def part(batch: TokenBatch, chosen: jax.Array) -> TokenBatch:
        labels = jnp.where(chosen[..., None], batch.labels, IGNORED)
        return TokenBatch(batch.tokens, batch.attention & chosen[..., None], labels)

    streams = ("edit", "rephrase", "locality", "edit_old", "rephrase_old", "locality_new")
    parts: dict[str, Any] = {
        name: None if (batch := getattr(facts, name)) is None else part(batch, kept)
        for name in streams
    }
    if (framed := facts.contexts) is not None:
        subject = jnp.where(kept[..., None], framed.subject, -1)
        parts["contexts"] = ContextBatch(part(framed.rows, kept[..., None]), subject)
    return FactBatch(**parts, subject_last=jnp.where(kept, facts.subject_last, -1))


def encode_edits(
    records: Sequence[EditRecord],
    tokenizer: Tokenizer,
    batch_size: int,
    *,
    rephrase: int | np.random.Generator = 0,
    locality: int | np.random.Generator = 0,
    contexts: Sequence[str] = (),
    length: int | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> FactBatch:
    """Encodes records in their order as ``S = ⌈records / batch_size⌉`` batches.

    Args:
      records: at least one.
      tokenizer: of the model.
      batch_size: ``n``, edits made at once.
      rephrase, locality: which of a record's prompts is used: its number, counted modulo the number
        of prompts a record has, or a generator that draws one for every record.
      contexts: texts to put in front of the edit prompts (`encode_contexts`); none: ``contexts`` of
        the result is None.
      length: positions of all streams; if None, of each the bucket of its longest row.
      context: positions of the model; a longer prompt is an error.
      vocabulary: tokens that the model embeds; a text with a token beyond them is an error.

    Returns:
      Arrays with leading axes ``[S, n]``. The parts for old answers are there if every record has a
      ``target_true``.

    Raises:
      ValueError: no records; a prompt does not fit, lacks its subject, or has a token beyond the
        vocabulary; the record is named. A context that is no text.
    """
    if not records or batch_size < 1:
        raise ValueError(
            f"{len(records)} records in batches of {batch_size}: give at least one, in batches of "
            "at least one"
        )
    _check_prompts(records)
    tokenizer = plain_tokenizer(tokenizer)
    options = {"length": length, "context": context, "vocabulary": vocabulary}
    others = [_choose(record.rephrases, rephrase) for record in records]
    probes = [_choose(record.locality, locality) for record in records]
    new = [record.target_new for record in records]
    old = [record.target_true for record in records]
    streams = (  # prompts, answers, answers with which these are compared
        ([record.prompt for record in records], new, old),
        (others, new, old),
        ([probe.prompt for probe in probes], [probe.answer for probe in probes], new),
    )
    paired = None not in old
    (edit, edit_old), (rephrased, rephrased_old), (local, local_new) = (
        _encode_stream(prompts, answers, old_answers if paired else None, tokenizer, options)
        for prompts, answers, old_answers in streams
    )
    places = _subject_places(records, tokenizer)
    framed = _framed(records, contexts, tokenizer, options) if len(contexts) else None
    flat = FactBatch(edit, rephrased, local, edit_old, rephrased_old, local_new, places, framed)
    return _in_batches(flat, batch_size)


def _check_prompts(records: Sequence[EditRecord]) -> None:
    for index, record in enumerate(records):
        if isinstance(record.rephrases, str):
            raise ValueError(
                f"record {index}: rephrases is the one text {record.rephrases!r}: give a tuple"
            )
        if not record.rephrases or not record.locality:
            lacking = "locality probe" if record.rephrases else "rephrased prompt"
            raise ValueError(f"record {index}, {record.prompt!r}, has no {lacking}: give it one")


_Choice = TypeVar("_Choice")


def _choose(options: Sequence[_Choice], choice: int | np.random.Generator) -> _Choice:
    drawn = choice if isinstance(choice, int) else int(choice.integers(len(options)))
    return options[drawn % len(options)]


def _encode_stream(
    prompts: Sequence[str],
    answers: Sequence[str],
    others: Sequence[str | None] | None,
    tokenizer: Tokenizer,
    options: Mapping[str, Any],
) -> tuple[TokenBatch, TokenBatch | None]:
    """Encodes prompts with either kind of answer, all padded to one length."""
    if others is None:
        return encode_answers(prompts, answers, tokenizer, **options), None
    both = [*answers, *(other or "" for other in others)]
    encoded = encode_answers([*prompts] * 2, both, tokenizer, **options)
    first, second = (
        jax.tree.map(lambda leaf, half=half: leaf[half], encoded)
        for half in (slice(len(prompts)), slice(len(prompts), None))
    )
    return first, second


def _framed(
    records: Sequence[EditRecord],
    contexts: Sequence[str],
    tokenizer: Tokenizer,
    options: Mapping[str, Any],
) -> ContextBatch:
    prompts = [record.prompt for record in records]
    subjects = [record.subject for record in records]
    answers = [record.target_new for record in records]
    return encode_contexts(prompts, subjects, answers, contexts, tokenizer, **options)


def _subject_places(records: Sequence[EditRecord], tokenizer: Tokenizer) -> Int32[np.ndarray, " n"]:
    places = np.full(len(records), -1, np.int32)
    for index, record in enumerate(records):
        if record.subject:
            try:
                places[index] = subject_last(record.prompt, record.subject, tokenizer)
            except ValueError as error:
                raise ValueError(f"record {index}: {error}") from error
    return places


def _in_batches(flat: FactBatch, size: int) -> FactBatch:
    """Splits the leading axis into batches, the last one filled up with rows that do not count."""
    return FactBatch(
        edit=split_batches(flat.edit, size),
        rephrase=split_batches(flat.rephrase, size),
        locality=split_batches(flat.locality, size),
        edit_old=flat.edit_old and split_batches(flat.edit_old, size),
        rephrase_old=flat.rephrase_old and split_batches(flat.rephrase_old, size),
        locality_new=flat.locality_new and split_batches(flat.locality_new, size),
        subject_last=split_rows(flat.subject_last, size, -1),
        contexts=flat.contexts
        and ContextBatch(
            split_batches(flat.contexts.rows, size), split_rows(flat.contexts.subject, size, -1)
        ),
    )
