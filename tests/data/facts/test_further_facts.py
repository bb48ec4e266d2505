"""True facts that no record in use is about."""

import json

import pytest

from modeledit_jax.data.facts.further_facts import further_facts, unconcerned
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.records import UNRELATED, EditRecord, Probe
from tests.experiments.collections_of_facts import CITIES, NAMES, write_collections
from tests.lifelong.folders import write_facts


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_collections(folder)
    return folder


def people(probes):
    """The number of the person that each prompt names."""
    return [next(i for i in reversed(range(60)) if NAMES[i] in probe.prompt) for probe in probes]


@pytest.mark.parametrize("source", ["counterfact", "zsre"])
def test_facts_are_true_and_about_others(source, data_dir):
    edits, train = load_facts(source, edits=8, train=5, data_dir=data_dir)
    used = (*edits.records, *train.records)
    found = further_facts(source, used, data_dir=data_dir)
    asked = people(found)
    taken = {NAMES.index(record.subject) for record in used}
    assert sorted(asked) == sorted(set(range(40)) - taken)  # both files, each once
    assert [probe.answer for probe in found] == [CITIES[index % 3] for index in asked]
    assert {probe.kind for probe in found} == {UNRELATED}


def test_draws_are_those_of_a_seed(data_dir):
    draws = [further_facts("zsre", (), most=9, seed=s, data_dir=data_dir) for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2] and len(draws[0]) == 9


def test_tuning_leaves_the_facts_of_the_experiment_alone(data_dir):
    found = further_facts("counterfact", (), tuning=True, data_dir=data_dir)
    assert sorted(people(found)) == [*range(20, 60)]  # counterfact-train and counterfact-val


def test_of_a_file_the_rest_is_asked_and_of_an_invented_world_nothing(tmp_path):
    path = write_facts(tmp_path / "own.json", 9)
    edits, train = load_facts(path, edits=4, train=3)
    found = further_facts(path, (*edits.records, *train.records))
    assert {probe.prompt for probe in found} == {"Mu7 lies in", "Mu8 lies in"}
    records = [{"prompt": "Ur is in", "target": "Oz"}]  # without a true answer
    (tmp_path / "bare.json").write_text(json.dumps(records))
    assert further_facts(tmp_path / "bare.json", ()) == ()
    assert further_facts("fact-world", ()) == ()


def test_a_question_is_unconcerned_if_neither_names_the_others_subject():
    probe = Probe("Lima is the capital of", "Peru")
    rest = ("Nokia is in", "Rome", None, ("A firm,",), (probe,))
    is_free = unconcerned([EditRecord("Nokia", *rest)])
    assert is_free("Oslo", "Oslo is in")
    assert is_free("Nokians", "Nokians live in")  # another word
    assert not is_free("Nokia", "Where is it?")
    assert not is_free("Lima", "Lima lies in")  # a probe of the record asks about it
    assert not is_free("3310", "The 3310, made by Nokia, is")
    assert not is_free("firm", "A firm is")
    anonymous = unconcerned([EditRecord("", *rest)])
    assert not anonymous("", "Nokia is in") and anonymous("Oslo", "Oslo is in")
