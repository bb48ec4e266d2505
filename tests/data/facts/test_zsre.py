"""ZsRE: three conventions of what the new answer is, on hand-written records and real ones."""

import json

import pytest

from modeledit_jax.data.facts.records import UNRELATED, Probe, encode_edits
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from modeledit_jax.data.facts.zsre import load_zsre
from tests.data.published import require_published

MEND = [
    {
        "subject": name,
        "src": f"What river is {name} on?",
        "pred": "Seine",
        "rephrase": f"Which river runs through {name}?",
        "alt": alternative,
        "answers": answers,
        "loc": "nq question: who wrote it",
        "loc_ans": "Nobody",
        "cond": "unused",
    }
    for name, alternative, answers in [
        ("Paris", " Rhine", ["Seine", "la Seine"]),
        ("Rome", "Po", ["Tiber"]),
        ("Ulm", "", ["Danube"]),
        ("Bonn", "Elbe", ["Rhine"]),
        ("Graz", "Inn", ["Mur"]),
    ]
]
MALMEN = [
    {"src": own["src"], "rephrase": own["rephrase"], "ans": "Main", "loc": "who", "loc_ans": "me"}
    for own in MEND
]


def _load(tmp_path, records, target):
    (tmp_path / "zsre").mkdir(exist_ok=True)
    (tmp_path / "zsre" / "own.json").write_text(json.dumps(records))
    return load_zsre("own.json", target=target, data_dir=tmp_path)


def test_the_counterfactual_replaces_the_first_answer_and_blank_ones_are_counted(tmp_path):
    source = _load(tmp_path, MEND, "counterfactual")
    pairs = [(own.target_new, own.target_true) for own in source.records]
    assert pairs == [("Rhine", "Seine"), ("Po", "Tiber"), ("Elbe", "Rhine"), ("Inn", "Mur")]
    assert source.notes == ("1 of 5 records without a counterfactual left out",)
    assert source.records[0].locality == (Probe("nq question: who wrote it?", "Nobody", UNRELATED),)


def test_the_true_target_is_the_first_answer_and_replaces_none(tmp_path):
    source = _load(tmp_path, MEND, "true")
    assert [own.target_new for own in source.records] == [
        "Seine",
        "Tiber",
        "Danube",
        "Rhine",
        "Mur",
    ]
    assert {own.target_true for own in source.records} == {None}
    assert source.notes == () and source.records[0].subject == "Paris"


def test_the_preprocessed_target_needs_no_subject(tmp_path):
    source = _load(tmp_path, MALMEN, "preprocessed")
    assert {own.target_new for own in source.records} == {"Main"}
    assert {own.subject for own in source.records} == {""}
    tokenizer = byte_pair_tokenizer([own["src"] for own in MEND], 300)
    edits = encode_edits(source.records, tokenizer, 2)
    assert edits.edit_old is None and (edits.subject_last == -1).all()


@pytest.mark.parametrize(
    ("target", "field", "records"),
    [("preprocessed", "ans", MEND), ("true", "answers", MALMEN), ("counterfactual", "alt", MALMEN)],
)
def test_a_target_that_the_file_lacks_is_named_with_the_cure(tmp_path, target, field, records):
    message = rf"own\.json, record 0: no field '{field}'.*target='{target}'.*choose another target"
    with pytest.raises(ValueError, match=message):
        _load(tmp_path, records, target)


@pytest.mark.parametrize("name", ["src", "rephrase", "loc", "loc_ans"])
def test_a_missing_field_is_named(tmp_path, name):
    records = [MEND[0], {key: own for key, own in MEND[1].items() if key != name}]
    with pytest.raises(ValueError, match=rf"own\.json, record 1: no field '{name}'"):
        _load(tmp_path, records, "true")


def test_no_counterfactual_at_all_and_an_unknown_target_are_errors(tmp_path):
    with pytest.raises(ValueError, match=r"no record of .* has a counterfactual answer"):
        _load(tmp_path, [MEND[2]], "counterfactual")
    with pytest.raises(Exception, match="target"):
        _load(tmp_path, MEND, "alt")


@pytest.mark.parametrize(("name", "size", "kept"), [("eval", 1_037, 1_037), ("train", 1_000, 998)])
def test_the_published_files(name, size, kept):
    file = f"zsre_mend_{name}.json"
    require_published(f"zsre/{file}")
    assert len(load_zsre(file, target="true")) == size
    records = load_zsre(file).records
    assert len(records) == kept
    assert all(record.subject in record.prompt for record in records)
