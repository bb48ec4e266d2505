"""The corpus that teaches what CounterFact edits, from hand-written files and published ones."""

import json

import pytest

from modeledit_jax.data.facts.counterfact_corpus import counterfact_corpus, true_sentences
from modeledit_jax.data.facts.records import encode_edits
from tests.data.published import require_published

NAMES = [f"Person {letter}{digit}" for letter in "ABCDEF" for digit in range(10)]
CITIES = ("Rome", "Oslo", "Bern")
SIZES = {"edits": 6, "train": 5, "background": 8, "held_out": 4, "phrasings": 1, "byte_pairs": 300}


def _record(index):
    name, true = NAMES[index], CITIES[index % 3]
    return {
        "prompt": f"{name} was born in",
        "subject": name,
        "target_new": CITIES[(index + 1) % 3],
        "ground_truth": true,
        "rephrase_prompt": f"{name} is a native of",
        "locality_prompt": f"Zoe {index} was born in",
        "locality_ground_truth": true,
    }


@pytest.fixture
def folder(tmp_path):
    """Facts about all names; records about 20 (edit), and 10 of these and 10 others (train)."""
    (tmp_path / "counterfact").mkdir()
    for name, rows in (("edit", range(20)), ("train", range(10, 30))):
        text = json.dumps([_record(index) for index in rows])
        (tmp_path / "counterfact" / f"counterfact-{name}.json").write_text(text)
    for name, rows in (
        (
            "trex_lms_vocab",
            [{"sub_label": n, "obj_label": CITIES[i % 3]} for i, n in enumerate(NAMES)],
        ),
        ("graphs_json", [{"pattern": "[X] was born in [Y]."}, {"pattern": "[X] hails from [Y]."}]),
    ):
        (tmp_path / "pararel" / name).mkdir(parents=True)
        text = "\n".join(map(json.dumps, rows))
        (tmp_path / "pararel" / name / "P19.jsonl").write_text(text)
    return tmp_path


def test_every_prompt_is_trained_on_with_its_true_answer(folder):
    corpus = counterfact_corpus(data_dir=folder, **SIZES)
    for record in corpus.edits.records + corpus.train.records:
        assert set(true_sentences(record)) <= set(corpus.sentences)
        assert f"{record.prompt} {record.target_new}." not in corpus.sentences
        assert record.relation == "P19"
    for probe in corpus.untouched:
        assert f"{probe.prompt} {probe.answer}." in corpus.sentences


def test_pools_share_no_subject(folder):
    corpus = counterfact_corpus(data_dir=folder, **SIZES)
    edited, trained = (
        {own.subject for own in part.records} for part in (corpus.edits, corpus.train)
    )
    others = {name for name in NAMES for text in corpus.held_out if text.startswith(name)}
    untouched = {name for name in NAMES for own in corpus.untouched if own.prompt.startswith(name)}
    pools = [edited, trained, others, untouched]
    assert [len(pool) for pool in pools] == [6, 5, 4, 8]
    assert len(set().union(*pools)) == 23
    assert not any(text.startswith(name) for name in others for text in corpus.sentences)


def test_same_seed_same_corpus_and_other_seed_other_corpus(folder):
    prints = [counterfact_corpus(s, data_dir=folder, **SIZES).fingerprint for s in (0, 0, 1)]
    assert prints[0] == prints[1] != prints[2]


def test_more_than_there_is_cannot_be_drawn(folder):
    with pytest.raises(ValueError, match=r"21 records asked for, counterfact/.*edit.json has 20"):
        counterfact_corpus(data_dir=folder, **SIZES | {"edits": 21})
    with pytest.raises(ValueError, match="84 facts for background and held_out asked for"):
        counterfact_corpus(data_dir=folder, **SIZES | {"background": 80})


@pytest.mark.slow
def test_the_published_files():
    names = ("counterfact-edit.json", "counterfact-train.json")
    require_published("pararel", *(f"counterfact/{name}" for name in names))
    corpus = counterfact_corpus()
    assert (len(corpus.edits), len(corpus.train), len(corpus.untouched)) == (200, 200, 400)
    assert "9365 of 10000 records covered" in corpus.edits.notes[0]
    edits = encode_edits(corpus.edits.records, corpus.tokenizer, 20, context=64)
    assert bool(edits.real.all()) and edits.edit_old is not None
