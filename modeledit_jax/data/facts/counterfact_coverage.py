"""Which ParaRel facts are behind CounterFact's records, and how these word their relations."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from modeledit_jax.data.facts.pararel import Fact, ParaRel
from modeledit_jax.data.facts.records import EditRecord, EditRecords

FEWEST_USES = 5
"""Of a prompt's wording, before it counts as a phrasing of a relation."""


def facts_behind(records: Sequence[EditRecord], pararel: ParaRel) -> list[Fact | None]:
    """The fact that each record edits: ParaRel's with its subject and true answer.

    Between a subject and an answer there may be several relations (born in and died in). Then a
    relation that the record names decides, else that for which most other records use the wording
    of its prompt.

    Args:
      records: of CounterFact, whole files: single records have nobody to ask.
      pararel: the facts.

    Returns:
      As many as records; None where ParaRel has no such fact.
    """
    candidates = [
        pararel.relations.get((record.subject, record.target_true or ""), ()) for record in records
    ]
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for record, relations in zip(records, candidates, strict=True):
        if len(relations) == 1:
            votes[wording(record.prompt, record.subject)][relations[0]] += 1
    facts: list[Fact | None] = []
    for record, relations in zip(records, candidates, strict=True):
        heard = votes[wording(record.prompt, record.subject)]
        ranked = sorted(relations, key=lambda name: (name != record.relation, -heard[name], name))
        true = record.target_true or ""
        facts.append(Fact(record.subject, ranked[0], true) if ranked else None)
    return facts


def only_covered(source: EditRecords, pararel: ParaRel) -> tuple[EditRecords, tuple[Fact, ...]]:
    """Keeps the records whose fact ParaRel has, with no other answer to the same question.

    Returns:
      The records, with their relation, and their facts; how many were left out is in the notes.
    """
    facts = facts_behind(source.records, pararel)
    pairs = [
        (record, fact)
        for record, fact in zip(source.records, facts, strict=True)
        if fact is not None and pararel.is_single(fact)
    ]
    absent = sum(fact is None for fact in facts)
    several = len(facts) - absent - len(pairs)
    note = (
        f"{source.name}: {len(pairs)} of {len(facts)} records covered; ParaRel lacks the fact of "
        f"{absent} and has several answers for {several}"
    )
    records = tuple(
        EditRecord(**{**vars(record), "relation": fact.relation}) for record, fact in pairs
    )
    return (
        EditRecords(source.name, records, (*source.notes, note)),
        tuple(fact for _, fact in pairs),
    )


def phrasings_in_use(records: Iterable[EditRecord], pararel: ParaRel) -> dict[str, tuple[str, ...]]:
    """ParaRel's phrasings of every relation, and after them those that CounterFact's prompts use.

    Args:
      records: with their relation (`only_covered`).
      pararel: the phrasings to begin with.

    Returns:
      By relation, texts with ``{}`` for the subject. A wording counts from `FEWEST_USES` records
      on, and only for the relation that most of them are about.
    """
    uses: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        for prompt in (record.prompt, *record.rephrases):
            uses[wording(prompt, record.subject)][record.relation] += 1
    found = {relation: dict.fromkeys(texts) for relation, texts in pararel.phrasings.items()}
    for text, counts in uses.items():
        relation, most = max(counts.items(), key=lambda item: (item[1], item[0]))
        if most >= FEWEST_USES and text.count("{}") == 1:
            found.setdefault(relation, {})[text] = None
    return {relation: tuple(texts) for relation, texts in found.items()}


def wording(prompt: str, subject: str) -> str:
    """A prompt with ``{}`` for its subject."""
    return prompt.replace(subject, "{}")
