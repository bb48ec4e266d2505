"""Facts as arrays, and what does not fit a model."""

from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from modeledit_jax.data.facts.choices import ChoiceQuestion
from modeledit_jax.data.facts.load import load_facts
from modeledit_jax.data.facts.records import Probe, encode_edits
from modeledit_jax.lifelong.fact_task import encode_task
from modeledit_jax.lifelong.language_model import read_language_model
from modeledit_jax.lifelong.memory_plan import MOST_LOGITS
from tests.lifelong.folders import write_facts, write_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return read_language_model(write_folder(tmp_path_factory.mktemp("models") / "llama"))


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return load_facts(
        write_facts(tmp_path_factory.mktemp("facts") / "own.json", 10), edits=6, train=4
    )


def test_edits_are_asked_about_with_their_first_prompts(model, facts):
    edits, train = facts
    task = encode_task(model, edits, train, batch_size=4)
    expected = encode_edits(edits.records, model.tokenizer, 4, context=model.config.context)
    np.testing.assert_array_equal(task.edits.rephrase.tokens, expected.rephrase.tokens)
    assert (task.edits.batches, task.train.batches) == (2, 1)
    assert task.streams == (task.edits, task.train)
    assert task.first == 1  # a quarter of six
    assert task.model is model.editable


def test_phrasings_of_what_is_learned_from_are_drawn(model, facts):
    _, train = facts
    texts = [f"{index} is" for index in range(30)]
    records = [replace(record, rephrases=tuple(texts)) for record in train.records]
    tasks = [encode_task(model, records, records, seed=seed) for seed in (0, 0, 1)]
    one, same, other = (np.asarray(task.train.rephrase.tokens) for task in tasks)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_nothing_to_learn_from_is_none(model, facts):
    task = encode_task(model, facts[0].records)
    assert task.train is None and task.streams == (task.edits,)


def test_questions_are_split_for_large_vocabularies(model, facts):
    untouched = [Probe("The dog slept by", "the door")] * 230
    task = encode_task(model, facts[0], untouched=untouched)
    assert task.untouched.tokens.shape[:2] == (3, 100)
    wide = replace(model.editable.config, vocab_size=MOST_LOGITS // 50)
    large = replace(model, editable=model.editable.replace(config=wide))
    task = encode_task(large, facts[0], untouched=untouched)
    rows, length = task.untouched.tokens.shape[1:]
    assert 1 <= rows < 100 and rows * length * wide.vocab_size <= MOST_LOGITS


def test_a_word_without_an_embedding_is_named(model, facts):
    small = replace(model.editable.config, vocab_size=100)
    short = replace(model, editable=model.editable.replace(config=small))
    with pytest.raises(
        ValueError, match=r"row 0: 'Mu0 lies in.*has the token.*the network embeds 100"
    ):
        encode_task(short, facts[0])


@pytest.mark.parametrize(
    ("options", "part"),
    [({"edits": []}, "no facts to edit in"), ({"first": 9}, "first must be 1…6.*got 9")],
)
def test_what_does_not_fit_is_refused(model, facts, options, part):
    with pytest.raises(ValueError, match=part):
        encode_task(**{"model": model, "edits": facts[0]} | options)


def test_batches_of_another_vocabulary_are_refused(model, facts):
    task = encode_task(model, *facts)
    small = task.model.replace(config=replace(task.model.config, vocab_size=90))
    with pytest.raises(
        ValueError, match=r"edits\.edit holds the token \d+, and the network embeds"
    ):
        replace(task, model=small)
    for name in ("sentences", "untouched"):
        batch = getattr(task, name)
        with pytest.raises(ValueError, match=f"{name} holds the token"):
            replace(task, **{name: batch.replace(tokens=batch.tokens + 400)})


def test_a_vocabulary_with_gaps_is_seen_through(model, facts):
    """Fewer tokens than embeddings, and yet one whose number is beyond them."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "sky": 900}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    assert tokenizer.get_vocab_size() < model.config.vocab_size
    with pytest.raises(ValueError, match="'Mu0 lies in the sky' has the token 'sky', number 900"):
        encode_task(replace(model, tokenizer=tokenizer), facts[0])


def test_further_questions_are_asked_if_there_are_any(model, facts):
    task = encode_task(model, facts[0])
    assert task.known is None and task.choices is None
    known = [Probe("The dog slept by", "the door")] * 3
    choices = [ChoiceQuestion("She closed the", "window", ("door", "very good shelf"))] * 120
    task = encode_task(model, facts[0], known=known, choices=choices)
    assert task.known.tokens.shape[:2] == (1, 100)
    assert task.choices.tokens.shape[:3] == (3, 2, 100)
    assert [int(row.scored.any(-1).sum()) for row in (task.known, task.choices)] == [3, 360]
    with pytest.raises(ValueError, match="choices holds the token"):
        replace(task, choices=task.choices.replace(tokens=task.choices.tokens + 400))


@pytest.mark.parametrize("text", ["untouched", "sentences"])
def test_what_is_asked_besides_is_checked_too(model, facts, text):
    tokenizer = Tokenizer.from_str(model.tokenizer.to_str())
    tokenizer.add_tokens(["Zorblax"])
    short = replace(model, tokenizer=tokenizer)
    value = {"untouched": [Probe("Zorblax lies in", "Ur")], "sentences": ["See Zorblax now"]}[text]
    with pytest.raises(ValueError, match=r"row 0: .* has the token 'Zorblax', number 400"):
        encode_task(short, facts[0], **{text: value})
