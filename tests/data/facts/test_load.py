"""Facts by the name of their source: draws, and that nobody is in both parts."""

import json

import pytest

from modeledit_jax.data.facts.load import load_facts
from tests.data.facts.test_fact_file import COUNTERFACT, SHORT, ZSRE


def subjects(records):
    return {record.subject for record in records.records}


@pytest.fixture
def data_dir(tmp_path):
    """Twenty records in every file; the first ten subjects of either file are the same."""
    files = {
        "counterfact": ("counterfact-edit.json", "counterfact-train.json", COUNTERFACT),
        "zsre": ("zsre_mend_eval.json", "zsre_mend_train.json", ZSRE),
    }
    for folder, (edit, train, record) in files.items():
        (tmp_path / folder).mkdir()
        for name, offset in ((edit, 0), (train, 10)):
            text = json.dumps(record)
            records = [json.loads(text.replace("Mu", f"Mu{offset + i}")) for i in range(20)]
            (tmp_path / folder / name).write_text(json.dumps(records))
    return tmp_path


@pytest.mark.parametrize("source", ["counterfact", "zsre"])
def test_a_collection_is_drawn_from(data_dir, source):
    edits, train = load_facts(source, edits=8, train=5, seed=1, data_dir=data_dir)
    assert len(edits) == 8 and len(train) == 5
    assert not subjects(edits) & subjects(train)
    assert load_facts(source, edits=8, train=5, seed=1, data_dir=data_dir)[0] == edits
    assert load_facts(source, edits=8, train=5, seed=2, data_dir=data_dir)[0] != edits


def test_all_there_is_and_as_many_to_learn_from(data_dir):
    edits, train = load_facts("zsre", edits=6, data_dir=data_dir)
    assert len(edits) == len(train) == 6
    edits, train = load_facts("zsre", data_dir=data_dir)
    assert len(edits) == 20 and len(train) == 10  # the others are about subjects that are edited
    with pytest.raises(ValueError, match=r"11 facts asked for, zsre/zsre_mend_train.json.* has 10"):
        load_facts("zsre", train=11, data_dir=data_dir)


def test_fact_world_needs_no_files():
    edits, train = load_facts(edits=6, train=3)
    assert len(edits) == 6 and len(train) == 3 and not subjects(edits) & subjects(train)


def test_a_file_keeps_its_order_and_gives_what_is_left_to_learn_from(tmp_path):
    texts = [SHORT | {"prompt": f"Mu{i} lies in", "subject": f"Mu{i}"} for i in (0, 1, 0, 2)]
    (tmp_path / "own.json").write_text(json.dumps(texts))
    edits, train = load_facts(tmp_path / "own.json", edits=2, train=1)
    assert [record.subject for record in edits.records] == ["Mu0", "Mu1"]
    assert [record.subject for record in train.records] == ["Mu2"]  # the second Mu0 is edited
    every, none = load_facts(str(tmp_path / "own.json"))
    assert len(every) == 4 and len(none) == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"source": "wikidata"}, "unknown facts 'wikidata'.*zsre.*JSON|json"),
        ({"source": "zsre", "edits": 21}, "21 facts asked for.*has 20"),
        ({"source": "zsre", "edits": 0}, "at least one"),
        ({"source": "zsre", "edits": 5, "train": -1}, "-1 facts asked for"),
    ],
)
def test_what_is_not_there_is_refused(data_dir, options, part):
    with pytest.raises(ValueError, match=part):
        load_facts(**options, data_dir=data_dir)
