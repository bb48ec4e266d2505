"""ZsRE with the text that teaches it."""

import json

import pytest

from modeledit_jax.data.facts.zsre_corpus import zsre_corpus
from tests.data.facts.test_fact_file import ZSRE


@pytest.fixture
def data_dir(tmp_path):
    (tmp_path / "zsre").mkdir()
    for name, offset in (("zsre_mend_eval.json", 0), ("zsre_mend_train.json", 20)):
        text = json.dumps(ZSRE)
        records = [json.loads(text.replace("Mu", f"Mu{offset + i}x")) for i in range(20)]
        (tmp_path / "zsre" / name).write_text(json.dumps(records))
    return tmp_path


def test_every_question_is_taught_with_its_true_answer(data_dir):
    corpus = zsre_corpus(1, edits=4, train=3, background=10, held_out=5, data_dir=data_dir)
    assert len(corpus.edits) == 4 and len(corpus.train) == 3
    assert len(corpus.untouched) == 10 and len(corpus.held_out) == 5
    for record in (*corpus.edits.records, *corpus.train.records):
        for prompt in (record.prompt, *record.rephrases):
            assert f"{prompt} Africa." in corpus.sentences
    for probe in corpus.untouched:
        assert f"{probe.prompt} {probe.answer}." in corpus.sentences
    assert not set(corpus.held_out) & set(corpus.sentences)
    said = {record.subject for record in corpus.edits.records + corpus.train.records}
    assert not any(f" {name} " in text for name in said for text in corpus.held_out)
    other = zsre_corpus(2, edits=4, train=3, data_dir=data_dir)
    assert other.fingerprint != corpus.fingerprint
    assert corpus.tokenizer.get_vocab_size() > 258


def test_something_must_be_left_to_ask_about(data_dir):
    corpus = zsre_corpus(edits=20, train=18, data_dir=data_dir)
    assert len(corpus.untouched) == len(corpus.held_out) == 1
    with pytest.raises(ValueError, match="leave 1 of ZsRE to ask about besides: ask for fewer"):
        zsre_corpus(edits=20, train=19, data_dir=data_dir)
