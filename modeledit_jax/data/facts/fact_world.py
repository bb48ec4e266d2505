"""An embedded world of invented facts: a language model learns it in minutes, then it is edited.

Subjects are persons, towns and houses of trade (`fact_lexicon`); each has one answer to each of the
four relations of its kind, and many subjects share an answer, so that a counterfactual answer is as
plausible as the true one. Subjects are split into four roles:

=================== ====================================================================
``train``           their facts are edited while an editor learns to edit
``train_untouched`` neighbors of those: their facts must survive such edits
``edit``            their facts are edited when an editor is measured
``untouched``       neighbors of those, and the facts that measure general ability
=================== ====================================================================

A neighbor has the same true answer to the same relation, as in CounterFact (Meng et al. 2022,
arXiv 2202.05262), where an edit that goes too far shows first. Three facts of an edited subject are
edited, at different times, the fourth is a probe. The held-out phrasings are seen by the language
model, but not by an editor in training.

All names, phrasings and sentences are this project's own; no download is needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

from modeledit_jax.data.facts import lexicon, plain_lexicon
from modeledit_jax.data.facts.corpus import FactCorpus
from modeledit_jax.data.facts.records import (
    NEIGHBOUR,
    SAME_SUBJECT,
    UNRELATED,
    EditRecord,
    EditRecords,
    Probe,
)
from modeledit_jax.data.stable_random import StableRandom

ROLES = ("train", "train_untouched", "edit", "untouched")

EDITS_PER_SUBJECT = 3
"""Of the four facts of an edited subject; the other is a probe of kind `SAME_SUBJECT`."""

_ONSETS = (
    *("b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "kl", "l", "m", "n"),
    *("p", "pr", "qu", "r", "s", "sh", "st", "t", "th", "tr", "v", "w", "z"),
)
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "ou")
_CODAS = ("l", "ld", "m", "n", "nd", "nt", "r", "rd", "rn", "s", "sk", "th", "x")


class _Subject(NamedTuple):
    name: str
    answers: dict[str, str]  # by relation


_Role = dict[str, list[_Subject]]  # by kind


def fact_world(
    seed: int = 0,
    *,
    edits: int = 1_000,
    train: int = 1_000,
    untouched: int = 60,
    plain: int = 3_000,
    held_out: int = 500,
) -> FactCorpus:
    """Draws a world. Equal arguments give equal text on every machine.

    Args:
      seed: of all draws.
      edits, train: edits to measure with and to learn from; a third as many subjects are edited.
      untouched: subjects of each of the two untouched roles, at least one per answer.
      plain: plain sentences to train on.
      held_out: plain sentences for perplexity.

    Returns:
      Sentences are plain, or a fact in one phrasing; every fact is there in all five. ``rephrases``
      of ``train`` are the training phrasings, those of ``edits`` the held-out ones; the first probe
      of a record is a neighbor, the second the same subject. With the default arguments: 788
      subjects, 3,152 facts.

    Raises:
      ValueError: a role is too small.
    """
    if min(edits, train, plain, held_out) < 1:
        raise ValueError("a world needs edits, train, plain and held_out of at least 1")
    if untouched < (least := _fewest_untouched()):
        raise ValueError(
            f"untouched={untouched}: every answer needs a subject that keeps it, give {least}"
        )
    edited = [-(-number // EDITS_PER_SUBJECT) for number in (train, edits)]
    sizes = dict(zip(ROLES, (edited[0], untouched, edited[1], untouched), strict=True))
    roles = _people(StableRandom(seed, 0), sizes)
    draws = StableRandom(seed, 1)
    training, measuring = lexicon.TRAINING_PHRASINGS, lexicon.HELD_OUT_PHRASINGS
    to_train = _edits(draws, roles["train"], roles["train_untouched"], training)
    to_measure = _edits(draws, roles["edit"], roles["untouched"], measuring)
    sentences = [
        f"{probe.prompt} {probe.answer} ."
        for role in roles.values()
        for probe in _facts(role, slice(None))
    ]
    spoken = _plain_sentences(StableRandom(seed, 2), plain + held_out)
    return FactCorpus(
        name="fact-world",
        sentences=tuple(StableRandom(seed, 3).shuffled([*sentences, *spoken[:plain]])),
        held_out=tuple(spoken[plain:]),
        train=EditRecords("fact-world-train", tuple(to_train[:train])),
        edits=EditRecords("fact-world", tuple(to_measure[:edits])),
        untouched=tuple(_facts(roles["untouched"], slice(1))),
    )


def _fewest_untouched() -> int:
    """Subjects that suffice for every kind to have one with every answer."""
    most = max(len(relation.answers) for kind in lexicon.KINDS for relation in kind.relations)
    return len(lexicon.KINDS) * most


def _people(draws: StableRandom, sizes: dict[str, int]) -> dict[str, _Role]:
    """Names subjects and gives them answers, in every role as evenly as can be."""
    names = iter(_invented_words(draws, sum(sizes.values())))
    roles: dict[str, _Role] = {}
    for role, size in sizes.items():
        roles[role] = {}
        for index, kind in enumerate(lexicon.KINDS):
            count = len(range(index, size, len(lexicon.KINDS)))
            answers = [draws.balanced(relation.answers, count) for relation in kind.relations]
            shared = draws.balanced(kind.shared or ("",), count)
            roles[role][kind.name] = [
                _Subject(
                    name=kind.form.format(invented=next(names), shared=word),
                    answers={
                        relation.name: answer
                        for relation, answer in zip(kind.relations, row, strict=True)
                    },
                )
                for word, row in zip(shared, zip(*answers, strict=True), strict=True)
            ]
    return roles


def _invented_words(draws: StableRandom, count: int) -> list[str]:
    """Distinct invented words of two or three syllables that the lexicon does not use."""
    taken = {word.lower() for word in lexicon_words()}
    words: list[str] = []
    while len(words) < count:
        syllables = 2 + draws.below(2)
        parts = [draws.pick(_ONSETS) + draws.pick(_VOWELS) for _ in range(syllables)]
        word = "".join(parts) + draws.pick(_CODAS)
        if word not in taken:
            taken.add(word)
            words.append(word.capitalize())
    return words


def lexicon_words() -> set[str]:
    """Every word of the lexicon, as the corpus spells it."""
    texts = [
        *plain_lexicon.FRAMES,
        *(text for texts in plain_lexicon.WORDS.values() for text in texts),
    ]
    for kind in lexicon.KINDS:
        texts += kind.shared
        for relation in kind.relations:
            texts += (*relation.answers, *relation.phrasings)
    return {word for text in texts for word in text.split() if not word.startswith("{")}


def _facts(role: _Role, phrasings: slice) -> list[Probe]:
    return [
        Probe(phrasing.format(subject.name), subject.answers[relation.name], UNRELATED)
        for kind in lexicon.KINDS
        for subject in role[kind.name]
        for relation in kind.relations
        for phrasing in relation.phrasings[phrasings]
    ]


def _edits(
    draws: StableRandom, edited: _Role, untouched: _Role, phrasings: slice
) -> list[EditRecord]:
    """`EDITS_PER_SUBJECT` edits of every subject, in random order."""
    records: list[EditRecord] = []
    for kind in lexicon.KINDS:
        for subject in edited[kind.name]:
            relations = draws.shuffled(kind.relations)
            kept = relations[EDITS_PER_SUBJECT]
            for relation in relations[:EDITS_PER_SUBJECT]:
                neighbors = _neighbors(subject, relation, untouched[kind.name])
                probes = (
                    _probe(draws.pick(neighbors), relation, NEIGHBOUR),
                    _probe(subject, kept, SAME_SUBJECT),
                )
                records.append(_edit(draws, subject, relation, phrasings, probes))
    return draws.shuffled(records)


def _neighbors(
    subject: _Subject, relation: lexicon.Relation, untouched: Sequence[_Subject]
) -> list[_Subject]:
    true = subject.answers[relation.name]
    return [other for other in untouched if other.answers[relation.name] == true]


def _probe(subject: _Subject, relation: lexicon.Relation, kind: str) -> Probe:
    prompt = relation.phrasings[0].format(subject.name)
    return Probe(prompt, subject.answers[relation.name], kind)


def _edit(
    draws: StableRandom,
    subject: _Subject,
    relation: lexicon.Relation,
    phrasings: slice,
    probes: tuple[Probe, ...],
) -> EditRecord:
    true = subject.answers[relation.name]
    return EditRecord(
        subject=subject.name,
        prompt=relation.phrasings[0].format(subject.name),
        target_new=draws.pick([answer for answer in relation.answers if answer != true]),
        target_true=true,
        rephrases=tuple(text.format(subject.name) for text in relation.phrasings[phrasings]),
        locality=probes,
        relation=relation.name,
    )


def _plain_sentences(draws: StableRandom, count: int) -> list[str]:
    """Distinct sentences from the frames, every slot filled on its own."""
    sentences: dict[str, None] = {}
    while len(sentences) < count:
        words = draws.pick(plain_lexicon.FRAMES).split()
        filled = [
            draws.pick(plain_lexicon.WORDS[word.strip("{}")]) if word.startswith("{") else word
            for word in words
        ]
        sentences[" ".join([*filled, "."])] = None
    return list(sentences)
