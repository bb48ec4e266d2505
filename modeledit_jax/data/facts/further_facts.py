"""True facts that a run has nothing to do with, to see what a model still knows after it."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from modeledit_jax.data.facts.fact_file import load_fact_file
from modeledit_jax.data.facts.load import COLLECTIONS, collection_parts
from modeledit_jax.data.facts.records import UNRELATED, EditRecord, EditRecords, Probe
from modeledit_jax.data.stable_random import StableRandom

MOST = 3_000
"""Facts that are drawn, at most: a model of 135 million parameters answers them in a minute on two
cores, and knows one CounterFact fact in twenty."""

_DRAW = 2  # beside the draws of `load_facts` and of `zsre_corpus`


def further_facts(
    source: str | Path,
    used: Sequence[EditRecord],
    *,
    most: int = MOST,
    seed: int = 0,
    tuning: bool = False,
    data_dir: Path | None = None,
) -> tuple[Probe, ...]:
    """Draws true facts of a source of `load_facts` about subjects that no record in use names.

    Args:
      source: as for `load_facts`. The facts of fact-world are invented, so nobody knows them: none.
      used: records that are edited or learned from; see `unconcerned`.
      most: facts at most.
      seed: of the draw.
      tuning: as for `load_facts`.
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Returns:
      Questions with true answers in random order, no prompt twice; perhaps none.

    Raises:
      FileNotFoundError, ValueError: as `load_facts`.
    """
    if source == "fact-world":
        return ()
    collected = source in COLLECTIONS
    parts: Sequence[EditRecords] = (
        collection_parts(str(source), tuning, data_dir) if collected else (load_fact_file(source),)
    )
    records = {
        record.prompt: record
        for part in parts
        for record in part.records
        if record.target_true is not None
    }
    is_free = unconcerned(used)
    found: list[Probe] = []
    for record in StableRandom(seed, _DRAW).shuffled(list(records.values())):
        if len(found) == most:
            break
        if is_free(record.subject or record.prompt, record.prompt):
            found.append(Probe(record.prompt, record.target_true or "", UNRELATED))
    return tuple(found)


def unconcerned(used: Sequence[EditRecord]) -> Callable[[str, str], bool]:
    """Whether records have nothing to do with a question, given its subject and its prompt.

    So it is if no text of theirs names its subject, in whole words, and its prompt none of theirs.
    """
    names = {record.subject or record.prompt for record in used}
    subjects = {_words(name) for name in names}
    texts = "\n".join(_words(text) for record in used for text in _texts(record))

    def is_free(subject: str, prompt: str) -> bool:
        if subject in names or _words(subject) in texts:
            return False
        asked = _words(prompt)
        return not any(name in asked for name in subjects)

    return is_free


def _texts(record: EditRecord) -> Iterator[str]:
    yield from (record.prompt, *record.rephrases)
    yield from (probe.prompt for probe in record.locality)


def _words(text: str) -> str:
    """The words of a text in lower case, with a space around each."""
    plain = re.sub(r"\W+", " ", text.lower()).strip()
    return f" {plain} "
