"""Facts to edit in and facts to learn editing from, by the name of their source."""

from collections.abc import Sequence
from pathlib import Path

from modeledit_jax.data.facts.counterfact import load_counterfact
from modeledit_jax.data.facts.fact_file import load_fact_file
from modeledit_jax.data.facts.fact_world import fact_world
from modeledit_jax.data.facts.records import EditRecord, EditRecords
from modeledit_jax.data.facts.zsre import load_zsre
from modeledit_jax.data.stable_random import StableRandom

COLLECTIONS = ("fact-world", "counterfact", "zsre")
"""Sources with a name."""


def load_facts(
    source: str | Path = "fact-world",
    *,
    edits: int | None = None,
    train: int | None = None,
    seed: int = 0,
    tuning: bool = False,
    data_dir: Path | None = None,
) -> tuple[EditRecords, EditRecords]:
    """Facts to edit in, and facts about other subjects to learn editing from.

    Args:
      source: ``"fact-world"`` (embedded, invented), ``"counterfact"`` or ``"zsre"`` (files in
        ``data_dir``), or the path of a JSON file of your own (`load_fact_file`).
      edits: how many to edit in; None: all there are, 200 of fact-world.
      train: how many to learn from; None: none of a file of your own, else as many as are edited,
        if there are so many.
      seed: of the draw. A file of your own keeps its order: the first ``edits`` are edited in.
      tuning: draw edits of ``counterfact`` and ``zsre`` from a part that is else never edited, to
        choose settings by: CounterFact's validation part, ZsRE's training part.
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Returns:
      Edits and facts to train on; the latter may be empty.

    Raises:
      FileNotFoundError: a file is not there; the message says where to put it.
      ValueError: unknown source, a damaged file, or fewer facts than asked for.
    """
    if edits is not None and edits < 1:
        raise ValueError(f"edits={edits}: give at least one fact to edit in")
    if source == "fact-world":
        edits = 200 if edits is None else edits
        world = fact_world(
            seed, edits=edits, train=edits if train is None else train, plain=1, held_out=1
        )
        return world.edits, world.train
    if source in COLLECTIONS:
        pools = collection_parts(str(source), tuning, data_dir)
        draws = StableRandom(seed)
        first = _take(draws.shuffled(pools[0].records), edits, pools[0].name)
        rest = draws.shuffled(_about_others(pools[1].records, first))
        train = min(len(first), len(rest)) if train is None else train
    elif str(source).endswith((".json", ".jsonl")):
        pools = (load_fact_file(source),) * 2
        first = _take(pools[0].records, edits, pools[0].name)
        rest = _about_others(pools[0].records[len(first) :], first)
    else:
        raise ValueError(
            f"unknown facts {str(source)!r}: choose {', '.join(COLLECTIONS)}, or give the path of "
            "a .json or .jsonl file of your own"
        )
    lessons = _take(rest, train or 0, f"{pools[1].name}, about other subjects,")
    return (
        EditRecords(pools[0].name, tuple(first), pools[0].notes),
        EditRecords(pools[1].name, tuple(lessons), pools[1].notes),
    )


def collection_parts(
    name: str, tuning: bool, data_dir: Path | None
) -> tuple[EditRecords, EditRecords]:
    """Where edits of a collection, and where facts to train on are drawn from; see `load_facts`."""
    if name == "counterfact":
        part = "val" if tuning else "edit"
        return (
            load_counterfact(f"counterfact-{part}.json", data_dir=data_dir),
            load_counterfact("counterfact-train.json", data_dir=data_dir),
        )
    return (
        load_zsre(f"zsre_mend_{'train' if tuning else 'eval'}.json", data_dir=data_dir),
        load_zsre("zsre_mend_train.json", data_dir=data_dir),
    )


def _about_others(records: Sequence[EditRecord], edited: Sequence[EditRecord]) -> list[EditRecord]:
    taken = {record.subject for record in edited} - {""}
    return [record for record in records if record.subject not in taken]


def _take(records: Sequence[EditRecord], count: int | None, name: str) -> list[EditRecord]:
    if count is not None and not 0 <= count <= len(records):
        raise ValueError(f"{count} facts asked for, {name} has {len(records)}: ask for fewer")
    return list(records[:count])
