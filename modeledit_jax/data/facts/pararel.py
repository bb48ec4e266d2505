"""ParaRel: facts of T-REx and many ways to say them (Elazar et al. 2021, arXiv 2102.01017).

CounterFact was made from these facts, so a small model that is trained on them truly knows what an
edit is to change.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from modeledit_jax.data.facts.json_records import fields_of_file
from modeledit_jax.data.folders import locate

_FACTS, _PATTERNS = "trex_lms_vocab", "graphs_json"


@dataclass(frozen=True)
class Fact:
    """``relation(subject) = answer``, e.g. ``P103(Danielle Darrieux) = French``."""

    subject: str
    relation: str
    answer: str


@dataclass(frozen=True)
class ParaRel:
    """Facts, and phrasings of relations.

    Attributes:
      facts: distinct, ordered by relation, then as in the files.
      phrasings: by relation, texts with ``{}`` for the subject that the answer follows.
      notes: what was left out.
    """

    facts: tuple[Fact, ...]
    phrasings: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @cached_property
    def answers(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By subject and relation, all true answers: a twin city or a border has several."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for fact in self.facts:
            found[fact.subject, fact.relation].append(fact.answer)
        return {key: tuple(values) for key, values in found.items()}

    @cached_property
    def relations(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """By subject and answer, all relations between the two."""
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for fact in self.facts:
            found[fact.subject, fact.answer].append(fact.relation)
        return {key: tuple(values) for key, values in found.items()}

    def is_single(self, fact: Fact) -> bool:
        """Whether a fact is the only true answer to its question, so that a model can know it."""
        return self.answers.get((fact.subject, fact.relation)) == (fact.answer,)


def load_pararel(*, data_dir: Path | None = None) -> ParaRel:
    """Reads ``<data_dir>/pararel/{trex_lms_vocab,graphs_json}/<relation>.jsonl``.

    Patterns in which the answer does not come last, such as "[Y] is [X]'s native language.", cannot
    be prompts of a causal model; they are left out and counted in the notes, as are relations
    without any pattern.

    Args:
      data_dir: default ``$MODELEDIT_DATA_DIR``.

    Raises:
      FileNotFoundError: a folder is not there; the message says where to put it.
      ValueError: it holds no relation, a file is no JSON, or a record lacks a field.
    """
    facts = dict.fromkeys(
        Fact(fields.text("sub_label"), path.stem, fields.text("obj_label"))
        for path in _relation_files(_FACTS, data_dir)
        for fields in fields_of_file(path)
    )
    patterns = {
        path.stem: [fields.text("pattern") for fields in fields_of_file(path)]
        for path in _relation_files(_PATTERNS, data_dir)
    }
    phrasings = {relation: tuple(_prompts(texts)) for relation, texts in patterns.items()}
    total = sum(map(len, patterns.values()))
    kept = sum(map(len, phrasings.values()))
    silent = sorted({fact.relation for fact in facts} - set(phrasings))
    return ParaRel(
        facts=tuple(facts),
        phrasings=phrasings,
        notes=(
            f"{total - kept} of {total} patterns left out: they repeat another, or the answer does "
            "not come last",
            f"relations without a pattern: {', '.join(silent) or 'none'}",
        ),
    )


def _relation_files(folder: str, data_dir: Path | None) -> list[Path]:
    place = locate("pararel", folder, data_dir)
    files = sorted(place.glob("*.jsonl"))
    if not files:
        raise ValueError(f"{place} holds no <relation>.jsonl: copy ParaRel's data/{folder} there")
    return files


def _prompts(patterns: Iterable[str]) -> dict[str, None]:
    """Patterns as distinct prompts with ``{}``, those that end in the answer."""
    ends = (pattern.rstrip(" .") for pattern in patterns)
    return dict.fromkeys(
        end.removesuffix("[Y]").rstrip().replace("[X]", "{}")
        for end in ends
        if end.endswith("[Y]") and end.count("[Y]") == end.count("[X]") == 1
    )
