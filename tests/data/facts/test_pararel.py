"""ParaRel's layout on hand-written files, and the published ones."""

import json

import pytest

from modeledit_jax.data.facts.pararel import Fact, load_pararel
from tests.data.published import require_published

FACTS = {
    "P37": [("Peru", "Spanish"), ("Chad", "French"), ("Chad", "Arabic"), ("Chad", "French")],
    "P47": [("Peru", "Chile")],
    "P31": [("Peru", "state")],
}
PATTERNS = {
    "P37": [
        "The official language of [X] is [Y].",
        "The official language of [X] is [Y] .",
        "[Y] is the official language of [X].",
        "In [X] they speak [Y]",
    ],
    "P47": ["[X] borders [Y]."],
}


def write(folder, facts=FACTS, patterns=PATTERNS):
    for name, own, row in (
        ("trex_lms_vocab", facts, lambda pair: {"sub_label": pair[0], "obj_label": pair[1]}),
        ("graphs_json", patterns, lambda pattern: {"pattern": pattern, "lemma": "x"}),
    ):
        (folder / "pararel" / name).mkdir(parents=True)
        for relation, rows in own.items():
            text = "\n".join(json.dumps(row(value)) for value in rows)
            (folder / "pararel" / name / f"{relation}.jsonl").write_text(text)
    return load_pararel(data_dir=folder)


def test_facts_are_distinct_and_indexed_both_ways(tmp_path):
    pararel = write(tmp_path)
    assert len(pararel.facts) == 5
    assert pararel.answers["Chad", "P37"] == ("French", "Arabic")
    assert pararel.relations["Peru", "Chile"] == ("P47",)
    assert pararel.is_single(Fact("Peru", "P37", "Spanish"))
    assert not pararel.is_single(Fact("Chad", "P37", "French"))
    assert not pararel.is_single(Fact("Chad", "P47", "Peru"))


def test_phrasings_are_the_distinct_patterns_that_end_in_the_answer(tmp_path):
    pararel = write(tmp_path)
    assert pararel.phrasings == {
        "P37": ("The official language of {} is", "In {} they speak"),
        "P47": ("{} borders",),
    }
    assert pararel.notes[0].startswith("2 of 5 patterns left out")
    assert pararel.notes[1] == "relations without a pattern: P31"


def test_missing_files_and_fields_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pararel/trex_lms_vocab: put it into"):
        load_pararel(data_dir=tmp_path)
    write(tmp_path)
    file = tmp_path / "pararel" / "graphs_json" / "P47.jsonl"
    file.write_text('{"lemma": "border"}')
    with pytest.raises(ValueError, match=r"P47\.jsonl, record 0: no field 'pattern'"):
        load_pararel(data_dir=tmp_path)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"holds no <relation>\.jsonl: copy ParaRel's data/graphs"):
        write(tmp_path, patterns={})


@pytest.mark.slow
def test_the_published_files():
    require_published("pararel")
    pararel = load_pararel()
    assert len(pararel.facts) == 29_394
    assert sum(map(len, pararel.phrasings.values())) == 214
    assert pararel.relations["Danielle Darrieux", "French"] == ("P103",)
