"""ZsRE's edits with the sentences that make a small model know what they change.

As `counterfact_corpus` does, but with nothing beside the records themselves: a model learns every
question, in every wording that it is asked in, with its true answer.
"""

from collections.abc import Sequence
from pathlib import Path

from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.counterfact_corpus import true_sentences
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.records import UNRELATED, EditRecord, Probe
from modeledit_jax.data.facts.zsre import load_zsre
from modeledit_jax.data.stable_random import StableRandom


def zsre_corpus(
    seed: int = 0,
    *,
    edits: int = 200,
    train: int = 200,
    background: int = 400,
    held_out: int = 100,
    byte_pairs: int = 4_096,
    data_dir: Path | None = None,
) -> FactCorpus:
    """Draws records of ZsRE with counterfactual answers, and the text that teaches the true ones.

    Args:
      seed: of all draws.
      edits: from ``zsre_mend_eval.json``.
      train: from ``zsre_mend_train.json``, about other subjects than ``edits``.
      background: further questions, the ``untouched``: at most, of what the files have left.
      held_out: still further ones, for perplexity: at most, a fifth of what is left.
      byte_pairs: size of the vocabulary.
      data_dir: with the folder ``zsre``; default ``$MODELEDIT_DATA_DIR``.

    Raises:
      FileNotFoundError: a file is not there; the message says where to put it.
      ValueError: a file is not what it must be, or has fewer records than asked for.
    """
    to_edit, to_train = load_facts("zsre", edits=edits, train=train, seed=seed, data_dir=data_dir)
    records = to_edit.records + to_train.records
    draws = StableRandom(seed, 1)
    rest = draws.shuffled(_further(records, data_dir))
    if len(rest) < 2:
        raise ValueError(
            f"{edits} edits and {train} records to learn from leave {len(rest)} of ZsRE to ask "
            "about besides: ask for fewer"
        )
    plain = min(held_out, max(1, len(rest) // 5))
    asked = rest[plain:][:background]
    texts = [text for record in (*records, *asked) for text in true_sentences(record)]
    return FactCorpus(
        name="zsre",
        sentences=tuple(draws.shuffled(list(dict.fromkeys(texts)))),
        held_out=tuple(f"{record.prompt} {record.target_true}." for record in rest[:plain]),
        train=to_train,
        edits=to_edit,
        untouched=tuple(
            Probe(record.prompt, record.target_true or "", UNRELATED) for record in asked
        ),
        byte_pairs=byte_pairs,
    )


def _further(records: Sequence[EditRecord], data_dir: Path | None) -> list[EditRecord]:
    """Records about subjects that the given ones are not about."""
    taken = {record.subject for record in records}
    files = ("zsre_mend_eval.json", "zsre_mend_train.json")
    return [
        record
        for name in files
        for record in load_zsre(name, data_dir=data_dir).records
        if record.subject not in taken
    ]
