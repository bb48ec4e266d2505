"""Relations behind CounterFact's records, on hand-written facts."""

from modeledit_jax.data.facts.counterfact_coverage import (
    FEWEST_USES,
    facts_behind,
    only_covered,
    phrasings_in_use,
    wording,
)
from modeledit_jax.data.facts.pararel import Fact, ParaRel
from modeledit_jax.data.facts.records import EditRecord, EditRecords, Probe

PARAREL = ParaRel(
    facts=(
        Fact("Ada", "born", "Rome"),
        Fact("Ada", "died", "Rome"),
        Fact("Bo", "died", "Oslo"),
        Fact("Cleo", "born", "Oslo"),
        Fact("Dan", "born", "Rome"),
        Fact("Dan", "born", "Oslo"),
    ),
    phrasings={"born": ("{} was born in",), "died": ("{} died in",)},
)


def _record(subject, prompt, true, relation=""):
    return EditRecord(
        subject=subject,
        prompt=prompt.format(subject),
        target_new="Bern",
        target_true=true,
        rephrases=(f"{subject}, whose life ended in",),
        locality=(Probe("Zoe died in", true),),
        relation=relation,
    )


def test_the_fact_of_a_subject_and_its_answer():
    records = [_record("Bo", "{} died in", "Oslo"), _record("Bo", "{} died in", "Rome")]
    assert facts_behind(records, PARAREL) == [Fact("Bo", "died", "Oslo"), None]


def test_among_several_relations_the_wording_of_other_records_decides():
    others = [_record("Bo", "{} passed away in", "Oslo"), _record("Cleo", "{} came from", "Oslo")]
    asked = [_record("Ada", "{} passed away in", "Rome"), _record("Ada", "{} came from", "Rome")]
    relations = [fact.relation for fact in facts_behind(others + asked, PARAREL)[2:]]
    assert relations == ["died", "born"]


def test_a_relation_that_the_record_names_decides_first():
    asked = _record("Ada", "{} passed away in", "Rome", relation="born")
    voter = _record("Bo", "{} passed away in", "Oslo")
    assert facts_behind([voter, asked], PARAREL)[1] == Fact("Ada", "born", "Rome")


def test_what_is_not_covered_is_left_out_and_counted():
    source = EditRecords(
        "own",
        (
            _record("Bo", "{} died in", "Oslo"),
            _record("Bo", "{} died in", "Rome"),
            _record("Dan", "{} was born in", "Rome"),
        ),
        notes=("before",),
    )
    covered, facts = only_covered(source, PARAREL)
    assert facts == (Fact("Bo", "died", "Oslo"),)
    assert [record.relation for record in covered.records] == ["died"]
    assert covered.records[0].prompt == "Bo died in"
    assert covered.notes == (
        "before",
        "own: 1 of 3 records covered; ParaRel lacks the fact of 1 and has several answers for 1",
    )


def test_frequent_wordings_join_the_phrasings_of_their_relation():
    often = [_record(f"S{i}", "{} passed away in", "Oslo", "died") for i in range(FEWEST_USES)]
    seldom = [_record("T", "{} came from", "Oslo", "born")]
    found = phrasings_in_use(often + seldom, PARAREL)
    assert found == {
        "born": ("{} was born in",),
        "died": ("{} died in", "{} passed away in", "{}, whose life ended in"),
    }


def test_a_wording_has_a_place_for_the_subject():
    assert wording("Where Bo Li is from, they speak", "Bo Li") == "Where {} is from, they speak"
