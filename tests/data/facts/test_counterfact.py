"""Both layouts of CounterFact on hand-written records, and the published files."""

import json

import pytest

from modeledit_jax.data.facts.counterfact import load_counterfact
from modeledit_jax.data.facts.records import NEIGHBOUR, Probe, encode_edits
from modeledit_jax.data.facts.tokenization import byte_pair_tokenizer
from tests.data.published import require_published

SUBJECTS = ("Ada Lovelace", "Bo", "Côte d'Or", "D. E. Fox", "Eve")
EASYEDIT = [
    {
        "case_id": index,
        "prompt": f"The mother tongue of {subject} is",
        "target_new": "English",
        "subject": subject,
        "ground_truth": "French",
        "rephrase_prompt": f"Unrelated words. {subject} speaks",
        "locality_prompt": "The mother tongue of Zoe is",
        "locality_ground_truth": "French",
    }
    for index, subject in enumerate(SUBJECTS)
]
ROME = [
    {
        "case_id": index,
        "requested_rewrite": {
            "prompt": "The mother tongue of {} is",
            "relation_id": "P103",
            "target_new": {"str": "English", "id": "Q1860"},
            "target_true": {"str": "French", "id": "Q150"},
            "subject": subject,
        },
        "paraphrase_prompts": [f"{subject} speaks", f"At home {subject} talks in"],
        "neighborhood_prompts": ["The mother tongue of Zoe is", "Zoe speaks"],
    }
    for index, subject in enumerate(SUBJECTS)
]


def _load(tmp_path, records):
    (tmp_path / "counterfact").mkdir(exist_ok=True)
    (tmp_path / "counterfact" / "own.json").write_text(json.dumps(records), "utf-8")
    return load_counterfact("own.json", data_dir=tmp_path)


def test_the_layout_of_easyedit(tmp_path):
    source = _load(tmp_path, EASYEDIT)
    assert [record.subject for record in source.records] == list(SUBJECTS)
    record = source.records[2]
    assert record.prompt == "The mother tongue of Côte d'Or is"
    assert (record.target_new, record.target_true) == ("English", "French")
    assert record.rephrases == ("Unrelated words. Côte d'Or speaks",)
    assert record.locality == (Probe("The mother tongue of Zoe is", "French", NEIGHBOUR),)
    assert source.name == "counterfact/own.json" and record.relation == ""


def test_the_layout_of_rome(tmp_path):
    record = _load(tmp_path, ROME).records[0]
    assert record.prompt == "The mother tongue of Ada Lovelace is" and record.relation == "P103"
    assert record.rephrases == ("Ada Lovelace speaks", "At home Ada Lovelace talks in")
    assert [probe.prompt for probe in record.locality] == ROME[0]["neighborhood_prompts"]
    assert {probe.answer for probe in record.locality} == {"French"}


def test_both_layouts_give_the_same_edit_tokens(tmp_path):
    tokenizer = byte_pair_tokenizer(["The mother tongue of Ada is French, English."], 300)
    one, other = (
        encode_edits(_load(tmp_path, records).records, tokenizer, 2) for records in (EASYEDIT, ROME)
    )
    assert (one.edit.tokens == other.edit.tokens).all()
    assert (one.edit_old.labels == other.edit_old.labels).all()
    assert (one.subject_last == other.subject_last).all()


@pytest.mark.parametrize("name", [name for name in EASYEDIT[0] if name != "case_id"])
def test_a_missing_field_of_easyedit_is_named(tmp_path, name):
    records = [EASYEDIT[0], {key: own for key, own in EASYEDIT[1].items() if key != name}]
    with pytest.raises(ValueError, match=rf"own\.json, record 1: no field '{name}'"):
        _load(tmp_path, records)


@pytest.mark.parametrize("name", ["paraphrase_prompts", "neighborhood_prompts"])
def test_a_missing_field_of_rome_is_named(tmp_path, name):
    with pytest.raises(ValueError, match=rf"record 0: no field '{name}'"):
        _load(tmp_path, [{key: own for key, own in ROME[0].items() if key != name}])


@pytest.mark.parametrize("name", ["prompt", "subject", "target_new", "target_true"])
def test_a_missing_field_of_a_rewrite_is_named(tmp_path, name):
    rewrite = {key: own for key, own in ROME[0]["requested_rewrite"].items() if key != name}
    with pytest.raises(ValueError, match=rf"record 0, requested_rewrite: no field '{name}'"):
        _load(tmp_path, [ROME[0] | {"requested_rewrite": rewrite}])


def test_a_subject_that_the_prompt_lacks_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"record 0: the subject 'Ada' is not in the field 'prom"):
        _load(tmp_path, [EASYEDIT[1] | {"subject": "Ada"}])
    rewrite = ROME[0]["requested_rewrite"] | {"prompt": "The mother tongue is"}
    with pytest.raises(ValueError, match=r"'prompt' is 'The mother tongue is', without \{\}"):
        _load(tmp_path, [ROME[0] | {"requested_rewrite": rewrite}])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "probes"),
    [
        ("counterfact-val.json", 1_919, 1),
        ("counterfact-edit.json", 10_000, 1),
        ("counterfact_rome_format_200.json", 200, 10),
    ],
)
def test_the_published_files(name, size, probes):
    require_published(f"counterfact/{name}")
    records = load_counterfact(name).records
    assert len(records) == size
    assert all(record.subject in record.prompt for record in records)
    assert {len(record.locality) for record in records} == {probes}
