"""Questions about further facts in the experiment: drawn, left out with a note, reported."""

import json
from dataclasses import replace

import pytest

from experiments.lifelong_editing import general_ability as module
from experiments.lifelong_editing.__main__ import command
from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.general_ability import general_ability
from experiments.lifelong_editing.setup import make_corpus
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.report.summary import read_summary
from tests.experiments.collections_of_facts import NAMES, write, write_collections
from tests.lifelong.folders import write_folder

LANGUAGES = ("Latin", "French", "Danish", "Czech", "Welsh")


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A network of its own, and facts of CounterFact and ParaRel."""
    write_collections(tmp_path / "data")
    monkeypatch.setenv("MODELEDIT_DATA_DIR", str(tmp_path / "data"))
    return Config(
        corpus="counterfact",
        model=write_folder(tmp_path / "llama"),
        methods=("original",),
        edits=4,
        batch_size=2,
        train_edits=4,
        modules=("layers/1/mlp/down",),
        run_dir=tmp_path / "run",
        cache_dir=tmp_path / "cache",
    )


@pytest.fixture
def languages(tmp_path):
    """A relation of ParaRel with enough answers to choose from."""
    rows = [{"sub_label": name, "obj_label": LANGUAGES[i % 5]} for i, name in enumerate(NAMES)]
    patterns = [{"pattern": "[X] speaks [Y]."}]
    for name, own in (("trex_lms_vocab", rows), ("graphs_json", patterns)):
        path = tmp_path / "data" / "pararel" / name / "P103.jsonl"
        write(path, "\n".join(map(json.dumps, own)))


def ability(config, seed=0):
    corpus, model = make_corpus(config, seed), read_language_model(config.model)
    return corpus, general_ability(config, seed, corpus, model, lambda _: lambda *_: None)


def test_questions_are_about_neither_edited_nor_trained_subjects(config, languages, monkeypatch):
    monkeypatch.setattr(module, "known_facts", lambda _, candidates, **__: candidates)
    corpus, found = ability(config)
    used = {record.subject for record in (*corpus.edits.records, *corpus.train.records)}
    assert len(used) == 8 and 20 <= len(found.known) <= 32 and len(found.choices) == 200
    for question in (*found.known, *found.choices):
        assert not any(f"{question.prompt} ".startswith(f"{name} ") for name in used)
    count = len(found.known)
    assert found.notes == (
        f"seed 0: known recall: of {count} facts about other subjects the model gives {count}",
        "seed 0: multiple choice: 200 questions of ParaRel about other subjects, a quarter right "
        "by chance",
    )
    assert ability(config, 1)[1].known != found.known


def test_what_cannot_be_asked_is_left_out_with_a_note(config, tmp_path):
    _, found = ability(config)
    assert found.known == found.choices == ()
    assert "the model gives 0, and 20 are needed" in found.notes[0]
    said = "0 questions of ParaRel about other subjects, and 20 are needed"
    assert found.notes[1] == f"seed 0: no multiple choice: {said}"  # three cities only
    (tmp_path / "data" / "pararel").rename(tmp_path / "elsewhere")
    _, found = ability(config)
    assert found.choices == ()
    assert "no multiple choice: no pararel/trex_lms_vocab: put it into" in found.notes[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_columns_are_there_where_questions_are(config, languages, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "known_facts", lambda _, candidates, **__: candidates[:25])
    assert command.main(config) == 0
    (row,) = read_summary(config.run_dir).rows
    assert row.metrics["known_recall"] == 0 <= row.metrics["multiple_choice"] <= 1
    report = (config.run_dir / "report.md").read_text()
    for part in ("known recall %", "multiple choice %", "| `known_recall` |", "gives 25"):
        assert part in report, part
    (tmp_path / "data" / "pararel").rename(tmp_path / "elsewhere")
    bare = replace(config, run_dir=tmp_path / "bare")
    assert command.main(bare) == 0
    report = (bare.run_dir / "report.md").read_text()
    assert "known recall %" in report and "multiple choice %" not in report
    assert "no multiple choice: no pararel/trex_lms_vocab" in report
