"""Text to train a language model on, with the edits that are then made to what it knows."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from modeledit_jax.data.facts.records import EditRecords, Probe
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer, word_tokenizer


@dataclass(frozen=True)
class FactCorpus:
    """What `fact_world` and `counterfact_corpus` return.

    Attributes:
      name: of the source.
      sentences: to train on, in random order; every fact that is asked for below is among them, in
        every phrasing that it is asked in.
      held_out: sentences that are not among those, for perplexity.
      train: edits to learn editing from; no subject of theirs is in ``edits``.
      edits: edits to measure with, in random order, so that every first part is a sample.
      untouched: true facts that nothing edits, for what a model can do besides.
      byte_pairs: size of a byte-pair vocabulary; None: a token is a word.
      notes: what the reader of a report has to know.
    """

    name: str
    sentences: tuple[str, ...]
    held_out: tuple[str, ...]
    train: EditRecords
    edits: EditRecords
    untouched: tuple[Probe, ...]
    byte_pairs: int | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the sentences; the held-out ones had no part in it."""
        if self.byte_pairs is None:
            return word_tokenizer(self.sentences)
        return byte_pair_tokenizer(self.sentences, self.byte_pairs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the whole content; equal on every machine."""
        parts = (self.sentences, self.held_out, self.train.records, self.edits.records)
        return hashlib.sha256(repr((self.name, *parts, self.untouched)).encode()).hexdigest()
