"""CounterFact's edits with the text that makes a small model know what they change.

Edits of facts that a model never knew measure nothing, and a small model knows few real facts. So
it is trained first: on the true facts behind the edits, from ParaRel, in many phrasings, on the
true answers to all prompts that it will be asked, and on further facts that nothing edits.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.counterfact import load_counterfact
from modeledit_jax.data.facts.counterfact_coverage import only_covered, phrasings_in_use
from modeledit_jax.data.facts.pararel import Fact, ParaRel, load_pararel
from modeledit_jax.data.facts.records import UNRELATED, EditRecord, EditRecords, Probe
from modeledit_jax.data.stable_random import StableRandom

_Phrasings = Mapping[str, Sequence[str]]  # by relation


def counterfact_corpus(
    seed: int = 0,
    *,
    edits: int = 200,
    train: int = 200,
    background: int = 400,
    held_out: int = 100,
    phrasings: int = 4,
    byte_pairs: int = 4_096,
    data_dir: Path | None = None,
) -> FactCorpus:
    """Draws covered records of CounterFact (`only_covered`) and the text that teaches them.

    Args:
      seed: of all draws.
      edits: from ``counterfact-edit.json``.
      train: from ``counterfact-train.json``, about other subjects than ``edits``.
      background: ParaRel facts about further subjects: the ``untouched``.
      held_out: still further ParaRel facts, one sentence of each, for perplexity.
      phrasings: of every fact, at most, besides the prompts that it is asked in.
      byte_pairs: size of the vocabulary.
      data_dir: with the folders ``counterfact`` and ``pararel``; default ``$MODELEDIT_DATA_DIR``.

    Raises:
      FileNotFoundError: a file is not there; the message says where to put it.
      ValueError: a file is not what it must be, or has fewer records than asked for.
    """
    pararel = load_pararel(data_dir=data_dir)
    files = [
        only_covered(load_counterfact(f"counterfact-{name}.json", data_dir=data_dir), pararel)[0]
        for name in ("edit", "train")
    ]
    draws = StableRandom(seed)
    to_edit = _draw_records(draws, files[0], edits, taken=())
    to_train = _draw_records(draws, files[1], train, taken={record.subject for record in to_edit})
    records = to_edit + to_train
    taken = {record.subject for record in records}
    asked = _draw_facts(draws, pararel, background + held_out, taken)
    ways = phrasings_in_use((record for file in files for record in file.records), pararel)
    untouched = [_question(fact, pararel) for fact in asked[:background]]
    facts = [Fact(edit.subject, edit.relation, edit.target_true or "") for edit in records]
    texts = [
        *(
            text
            for fact in facts + asked[:background]
            for text in _say(draws, fact, ways, phrasings)
        ),
        *(text for record in records for text in true_sentences(record)),
        *(f"{probe.prompt} {probe.answer}." for probe in untouched),
    ]
    return FactCorpus(
        name="counterfact",
        sentences=tuple(draws.shuffled(list(dict.fromkeys(texts)))),
        held_out=tuple(_say(draws, fact, ways, 1)[0] for fact in asked[background:]),
        train=EditRecords(files[1].name, tuple(to_train), files[1].notes),
        edits=EditRecords(files[0].name, tuple(to_edit), files[0].notes),
        untouched=tuple(untouched),
        byte_pairs=byte_pairs,
        notes=pararel.notes,
    )


def true_sentences(record: EditRecord) -> list[str]:
    """Every prompt of a record with its true answer, as a model is to know it before the edit."""
    prompts = (record.prompt, *record.rephrases)
    answers = [f"{prompt} {record.target_true}." for prompt in prompts]
    return answers + [f"{probe.prompt} {probe.answer}." for probe in record.locality]


def _draw_records(
    draws: StableRandom, source: EditRecords, size: int, taken: Collection[str]
) -> list[EditRecord]:
    free = [record for record in source.records if record.subject not in taken]
    if size > len(free):
        raise ValueError(
            f"{size} records asked for, {source.name} has {len(free)} covered ones: ask for fewer"
        )
    return draws.shuffled(free)[:size]


def _draw_facts(
    draws: StableRandom, pararel: ParaRel, size: int, taken: Collection[str]
) -> list[Fact]:
    free = [
        fact
        for fact in pararel.facts
        if fact.subject not in taken
        and pararel.phrasings.get(fact.relation)
        and pararel.is_single(fact)
    ]
    if size > len(free):
        raise ValueError(
            f"{size} facts for background and held_out asked for, ParaRel has {len(free)} that "
            "no record is about: ask for fewer"
        )
    return draws.shuffled(free)[:size]


def _question(fact: Fact, pararel: ParaRel) -> Probe:
    prompt = pararel.phrasings[fact.relation][0].replace("{}", fact.subject)
    return Probe(prompt, fact.answer, UNRELATED)


def _say(draws: StableRandom, fact: Fact, ways: _Phrasings, count: int) -> list[str]:
    """A fact in ``count`` phrasings, fewer if there are not so many."""
    chosen = draws.shuffled(ways.get(fact.relation, ()))[:count]
    return [f"{text.replace('{}', fact.subject)} {fact.answer}." for text in chosen]
