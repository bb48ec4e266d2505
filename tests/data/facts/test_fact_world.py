"""The embedded world against its design, recounted from its text."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from modeledit_jax.data.facts import lexicon
from modeledit_jax.data.facts.encoding import encode_sentences
from modeledit_jax.data.facts.fact_world import EDITS_PER_SUBJECT, fact_world, lexicon_words
from modeledit_jax.data.facts.records import NEIGHBOUR, SAME_SUBJECT, UNRELATED, encode_edits

FINGERPRINT = "471952fd8bf25631dee07a924813692577f19c45a9ad045e37ddb70628f88e72"
SMALL = {"edits": 30, "train": 20, "plain": 40, "held_out": 10}
RELATIONS = {relation.name: relation for kind in lexicon.KINDS for relation in kind.relations}


@pytest.fixture(scope="module")
def world():
    return fact_world()


@pytest.fixture(scope="module")
def known(world):
    """The answers that training gives to every prompt."""
    return {(prompt, answer) for text in world.sentences for prompt, answer in _splits(text)}


def _splits(sentence):
    words = sentence.removesuffix(" .").split()
    return [(" ".join(words[:-size]), " ".join(words[-size:])) for size in (1, 2)]


def _subjects(records):
    return {record.subject for record in records.records}


def test_the_default_world_is_the_published_one(world):
    assert world.fingerprint == FINGERPRINT
    assert (len(world.edits), len(world.train), len(world.untouched)) == (1_000, 1_000, 240)
    assert len(world.sentences) == 788 * 4 * 5 + 3_000
    assert world.tokenizer.get_vocab_size() == 1_229


def test_same_seed_same_world_and_other_seed_other_world():
    first, again, other = (fact_world(seed, **SMALL).fingerprint for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.slow
def test_a_thousand_edits_fit_sixteen_positions_and_use_known_words(world):
    edits = encode_edits(world.edits.records, world.tokenizer, 20, context=16)
    assert edits.edit.tokens.shape[:2] == (50, 20)
    unknown = world.tokenizer.token_to_id("<unknown>")
    streams = (edits.edit, edits.rephrase, edits.locality, edits.edit_old)
    assert not any((batch.tokens == unknown).any() for batch in streams)
    assert encode_sentences(world.sentences, world.tokenizer).tokens.shape[1] == 16


def test_no_two_pools_share_a_subject(world):
    trained, edited = _subjects(world.train), _subjects(world.edits)
    probes = {
        name: " ".join(
            probe.prompt
            for record in records.records
            for probe in record.locality
            if probe.kind == NEIGHBOUR
        ).split()
        for name, records in (("train", world.train), ("edits", world.edits))
    }
    own = {
        subject: next(w for w in subject.split() if w not in lexicon_words())
        for subject in trained | edited
    }
    assert not trained & edited
    assert len(set(own.values())) == len(own)
    for words in (*probes.values(), " ".join(p.prompt for p in world.untouched).split()):
        assert not set(own.values()) & set(words)
    assert not (set(probes["train"]) & set(probes["edits"])) - lexicon_words()


def test_every_prompt_of_a_record_and_every_untouched_fact_is_trained_on(world, known):
    for records in (world.train, world.edits):
        for record in records.records:
            for prompt in (record.prompt, *record.rephrases):
                assert (prompt, record.target_true) in known
            assert all((probe.prompt, probe.answer) in known for probe in record.locality)
    assert all((probe.prompt, probe.answer) in known for probe in world.untouched)
    assert {probe.kind for probe in world.untouched} == {UNRELATED}


def test_counterfactual_answers_are_others_of_the_same_relation_and_never_trained_on(world, known):
    for record in world.edits.records + world.train.records:
        assert record.target_new in RELATIONS[record.relation].answers
        assert record.target_new != record.target_true
        assert (record.prompt, record.target_new) not in known


def test_a_neighbor_shares_relation_and_answer_and_the_other_probe_the_subject(world):
    for record in world.edits.records:
        neighbor, same = record.locality
        phrasing = RELATIONS[record.relation].phrasings[0]
        before, after = phrasing.split("{}")
        assert neighbor.kind == NEIGHBOUR and neighbor.answer == record.target_true
        assert neighbor.prompt.startswith(before) and neighbor.prompt.endswith(after)
        assert record.subject not in neighbor.prompt
        assert same.kind == SAME_SUBJECT and record.subject in same.prompt
        assert same.prompt != record.prompt


def test_held_out_phrasings_occur_in_no_training_edit_and_training_ones_in_no_measurement(world):
    for records, phrasings in (
        (world.train, lexicon.TRAINING_PHRASINGS),
        (world.edits, lexicon.HELD_OUT_PHRASINGS),
    ):
        for record in records.records:
            expected = RELATIONS[record.relation].phrasings[phrasings]
            assert record.rephrases == tuple(text.format(record.subject) for text in expected)
    held_out, training = lexicon.HELD_OUT_PHRASINGS, lexicon.TRAINING_PHRASINGS
    for relation in RELATIONS.values():
        assert not set(relation.phrasings[held_out]) & set(relation.phrasings[training])


def test_no_fact_is_edited_twice_nor_probed_after_its_edit(world):
    for records in (world.train, world.edits):
        edited = [record.prompt for record in records.records]
        assert len(set(edited)) == len(edited)
        assert not set(edited) & {
            probe.prompt for record in records.records for probe in record.locality
        }
        per_subject = Counter(record.subject for record in records.records)
        assert max(per_subject.values()) <= EDITS_PER_SUBJECT


def test_answers_of_a_relation_are_spread_evenly(world):
    counts = defaultdict(Counter)
    for record in world.edits.records:
        counts[record.relation][record.target_true] += 1
    for name, own in counts.items():
        assert set(own) == set(RELATIONS[name].answers)
        assert max(own.values()) <= 4 * np.mean(list(own.values()))


def test_phrasings_are_distinct_and_have_one_place_for_the_subject():
    phrasings = [text for relation in RELATIONS.values() for text in relation.phrasings]
    assert len(set(phrasings)) == len(phrasings) == 5 * 12
    assert all(text.count("{}") == 1 and not text.endswith("{}") for text in phrasings)
    assert all(len(set(own.answers)) == len(own.answers) for own in RELATIONS.values())


def test_held_out_sentences_are_new_but_their_words_are_not(world):
    assert len(set(world.held_out)) == len(world.held_out) == 500
    assert not set(world.held_out) & set(world.sentences)
    words = {word for text in world.sentences for word in text.split()}
    assert {word for text in world.held_out for word in text.split()} <= words


def test_sizes_that_make_no_world_are_errors():
    with pytest.raises(ValueError, match=r"untouched=59: every answer needs.*give 60"):
        fact_world(untouched=59)
    with pytest.raises(ValueError, match="of at least 1"):
        fact_world(edits=0)
