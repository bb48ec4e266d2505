"""Facts of a user's own file."""

import json

import pytest

from modeledit_jax.data.facts.common_knowledge import QUESTIONS
from modeledit_jax.data.facts.fact_file import load_fact_file
from modeledit_jax.data.facts.records import Probe

FULL = {
    "prompt": "The capital of Atlantis is",
    "target": "Poseidonis",
    "subject": "Atlantis",
    "target_true": "unknown",
    "rephrases": ["Atlantis has the capital"],
    "locality": [{"prompt": "The capital of France is", "answer": "Paris"}],
}
SHORT = {"prompt": "Mu lies in", "target": "the sea"}
COUNTERFACT = {
    "subject": "Mu",
    "prompt": "Mu lies in",
    "target_new": "Asia",
    "ground_truth": "Africa",
    "rephrase_prompt": "Where is Mu? In",
    "locality_prompt": "Rome lies in",
    "locality_ground_truth": "Italy",
}
ZSRE = {
    "subject": "Mu",
    "src": "Where is Mu?",
    "rephrase": "Where does Mu lie?",
    "alt": "Asia",
    "answers": ["Africa"],
    "loc": "who sings",
    "loc_ans": "Nina",
}


def written(path, records):
    path.write_text(json.dumps(records))
    return path


def test_a_record_with_all_fields(tmp_path):
    (record,) = load_fact_file(written(tmp_path / "own.json", [FULL])).records
    assert (record.subject, record.prompt) == ("Atlantis", FULL["prompt"])
    assert (record.target_new, record.target_true) == ("Poseidonis", "unknown")
    assert record.rephrases == ("Atlantis has the capital",)
    assert record.locality == (Probe("The capital of France is", "Paris"),)


def test_prompt_and_target_are_enough_and_the_notes_say_what_stands_in(tmp_path):
    found = load_fact_file(written(tmp_path / "own.json", [SHORT, SHORT]))
    first, second = found.records
    assert first.subject == "" and first.target_true is None
    assert first.rephrases == (first.prompt,)
    assert (first.locality, second.locality) == ((QUESTIONS[0],), (QUESTIONS[1],))
    assert len(found.notes) == 2 and all("records without" in note for note in found.notes)


def test_layouts_of_the_published_collections_are_told_apart(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(json.dumps(own) for own in (FULL, COUNTERFACT, ZSRE)))
    found = load_fact_file(path)
    assert [record.target_new for record in found.records] == ["Poseidonis", "Asia", "Asia"]
    assert found.records[2].locality[0].prompt == "who sings?"
    assert found.notes == ()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"target": ""}, ["record 1", "'target'", "not empty"]),
        ({"prompt": None}, ["record 1", "'prompt'"]),
        ({"subject": "Lemuria"}, ["record 1", "Lemuria", "leave it out"]),
        ({"rephrases": []}, ["'rephrases'", "list of texts"]),
        ({"locality": ["x"]}, ["'locality'", "list of objects"]),
        ({"locality": [{"prompt": "x"}]}, ["locality 0", "'answer'"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, parts):
    path = written(tmp_path / "own.json", [FULL, FULL | change])
    with pytest.raises(ValueError) as error:
        load_fact_file(path)
    assert all(part in str(error.value) for part in parts), error.value


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file of facts"):
        load_fact_file(tmp_path / "none.json")
