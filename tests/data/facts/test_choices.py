"""Questions with answers to choose from: what is drawn of ParaRel, and how it is encoded."""

from collections import Counter

import numpy as np
import pytest

from modeledit_jax.data.facts.choices import ChoiceQuestion, draw_choices, encode_choices
from modeledit_jax.data.facts.encoding import encode_answers
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.pararel import Fact, ParaRel, load_pararel
from modeledit_jax.data.facts.records import EditRecord, Probe
from modeledit_jax.data.facts.tokenization import word_tokenizer
from tests.data.published import require_published

CITIES = ("Rome", "Oslo", "Bern", "Lima", "Riga")


def facts(relation, answers, count):
    """Subjects of a relation: ``P19 0``, ``P19 1``, …"""
    return [Fact(f"{relation} {i}", relation, answers[i % len(answers)]) for i in range(count)]


BORN = facts("P19", CITIES, 40)
PARAREL = ParaRel(
    (
        *BORN,
        *facts("P27", ("Peru", "Chad", "Mali", "Laos"), 20),
        *facts("P30", ("Asia", "Africa", "Europe"), 20),  # but two false answers
        *facts("P31", CITIES, 20),  # no phrasing
        *(Fact(f"P47 {i}", "P47", city) for i in range(9) for city in CITIES[i % 3 :]),  # several
        Fact("P19 3", "P20", "Oslo"),
        Fact("P19 4", "P19", "Lima"),
        Fact("The Riga of old", "P19", "Riga"),
    ),
    {name: (f"{{}} {name} is", f"{{}}, {name},") for name in ("P19", "P27", "P30", "P47")},
)


def record(subject):
    return EditRecord(subject, f"{subject} is", "x", None, (f"{subject}:",), (Probe("y", "z"),))


def subject_and_relation(question):
    subject, _, relation = question.prompt.removesuffix(" is").rpartition(" ")
    return subject, relation


def test_answers_are_the_true_one_and_three_false_ones_of_the_relation():
    found = draw_choices(PARAREL, [record("P19 7")], size=1000)
    assert len(found) == len({question.prompt for question in found}) == 40 - 2 + 20
    of_relation = {name: {f.answer for f in PARAREL.facts if f.relation == name} for name in
                   ("P19", "P27")}  # fmt: skip
    for question in found:
        subject, relation = subject_and_relation(question)
        assert PARAREL.answers[subject, relation] == (question.answer,)
        assert len(set(question.others)) == 3 and set(question.others) <= of_relation[relation]
        assert question.answer not in question.others
        assert not any((subject, other) in PARAREL.relations for other in question.others)
    subjects = {subject_and_relation(question)[0] for question in found}
    assert not {"P19 7", "P19 4", "The Riga of old"} & subjects and "P19 3" in subjects


def test_relations_are_asked_evenly_and_a_seed_decides():
    draws = [draw_choices(PARAREL, (), size=21, seed=seed) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    counts = Counter(subject_and_relation(question)[1] for question in draws[0])
    assert sorted(counts.values()) == [10, 11]


def test_others_are_as_frequent_as_among_the_answers():
    """So that whoever always takes the most frequent answer is not right more often by that."""
    often = [Fact(f"S{i}", "P1", "Rome" if i < 80 else f"T{i}") for i in range(100)]
    pararel = ParaRel(tuple(often), {"P1": ("{} is",)})
    found = [q for q in draw_choices(pararel, (), size=100) if q.answer != "Rome"]
    assert len(found) == 20 and sum("Rome" in question.others for question in found) >= 18


def test_rows_are_those_of_each_answer_alone():
    texts = ["Ada was born in Rome", "The capital is far Lima Oslo New Town"]
    tokenizer = word_tokenizer(texts)
    choices = [
        ChoiceQuestion("Ada was born in", "Rome", ("Oslo", "New Town")),
        ChoiceQuestion("The capital is", "far New Town", ("Rome", "Lima")),
        ChoiceQuestion("The capital was", "Lima", ("far", "Town Town Town")),
    ]
    found = encode_choices(choices, tokenizer, lambda places: 2)
    assert found.tokens.shape == (3, 2, 2, 8)
    for option in range(3):
        prompts = [choice.prompt for choice in choices]
        answers = [(choice.answer, *choice.others)[option] for choice in choices]
        alone = encode_answers(prompts, answers, tokenizer, length=8)
        for name in ("tokens", "attention", "labels"):
            rows = np.asarray(getattr(found, name)[option]).reshape(4, 8)
            np.testing.assert_array_equal(rows[:3], getattr(alone, name))
    assert not found.scored[:, 1, 1].any()


@pytest.mark.parametrize(
    ("choices", "part"),
    [
        ([], "choices is empty: give at least one question"),
        ([("a", "b", ("c",)), ("a", "b", ("c", "d"))], "row 1, 'a', has 2 other answers.*has 1"),
        ([("a", "b", ())], "row 0, 'a', has 0 other answers"),
        ([("a", "b", ("c", "b"))], "row 0, 'a': the true answer 'b' is among the others"),
    ],
)
def test_questions_that_cannot_be_judged_are_refused(choices, part):
    with pytest.raises(ValueError, match=part):
        encode_choices([ChoiceQuestion(*c) for c in choices], word_tokenizer(["a b"]), lambda n: 1)


@pytest.mark.slow
def test_the_published_files():
    names = ("counterfact-edit.json", "counterfact-train.json")
    require_published("pararel", *(f"counterfact/{name}" for name in names))
    edits, train = load_facts("counterfact", edits=1000, train=600)
    used = (*edits.records, *train.records)
    pararel = load_pararel()
    found = draw_choices(pararel, used)
    subjects = {record.subject for record in used}
    assert len(found) == 200
    for question in found:
        assert not any(question.prompt.startswith(f"{name} ") for name in subjects)
        assert question.answer not in question.others and len(set(question.others)) == 3
