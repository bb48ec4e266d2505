"""Scores of a sequence of edits, retention by order and age, and the cards of all metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.questions import group_questions
from modeledit_jax.data.facts.records import EditRecord, Probe, encode_edits
from modeledit_jax.data.facts.tokenization import word_tokenizer
from modeledit_jax.evaluation.edit_scores import (
    predictions,
    retention_by_age,
    retention_first,
    score_edits,
    summarize,
)
from modeledit_jax.evaluation.knowledge_cards import METRIC_CARDS

RECORDS = tuple(
    EditRecord(
        subject=f"s{index}",
        prompt=f"s{index} is",
        target_new="red blue",
        target_true="green",
        rephrases=(f"color of s{index} is",),
        locality=(Probe(f"z{index} is", "green"),),
    )
    for index in range(5)
)
TOKENIZER = word_tokenizer(
    ["red blue green color of is"] + [f"s{index} z{index}" for index in range(5)]
)
IDS = TOKENIZER.get_vocab()


def model(edited):
    """Says "red blue" of the subjects s0…s{edited−1} after their own prompt, "green" of all."""
    known = jnp.array([IDS[f"s{index}"] for index in range(edited)] or [-1])

    def predict(batch):
        tokens = batch.tokens
        after_subject = jnp.isin(tokens[:, 1], known)[:, None]  # begin, subject, is
        says = jnp.where(after_subject, IDS["red"], IDS["green"]) * jnp.ones_like(tokens)
        says = jnp.where(tokens == IDS["red"], IDS["blue"], says)
        logits = 4.0 * jax.nn.one_hot(says, len(IDS)) * batch.attention[..., None]
        if batch.places is None:
            return logits
        return jnp.take_along_axis(logits, batch.positions[..., None], axis=1)

    return predict


def grouped(edits, rows=3):
    return group_questions(edits, lambda places: rows)


def scores_of(predict, edits, unedited=None, **options):
    return score_edits(predict, grouped(edits), edits.real, unedited, **options)


@pytest.fixture(scope="module")
def edits():
    return encode_edits(RECORDS, TOKENIZER, 2)


def test_scores_of_a_model_that_keeps_three_of_five_edits(edits):
    unedited = predictions(model(0), grouped(edits))
    scores = scores_of(model(3), edits, unedited)
    summary = {name: float(own) for name, own in summarize(scores, first=2).items()}
    np.testing.assert_array_equal(scores.efficacy.exact, [[1, 1], [1, 0], [0, 0]])
    np.testing.assert_array_equal(scores.real, [[1, 1], [1, 1], [1, 0]])
    expected = {
        "efficacy": (3 * 1.0 + 2 * 0.5) / 5,  # forgotten: "green", then "blue" after "red"
        "efficacy_exact": 0.6,
        "efficacy_by_token": 0.6,  # one position: the old answer is shorter
        # New answer per token: half of "green" where forgotten, which is not enough
        "efficacy_by_probability": 0.6,
        "generalization": 0.5,
        "generalization_exact": 0.0,
        "generalization_by_token": 0.0,
        "generalization_by_probability": 0.0,
        "specificity": 1.0,
        "specificity_exact": 1.0,
        "specificity_by_token": 1.0,
        "specificity_by_probability": 1.0,
        "specificity_unedited": 1.0,
        "retention": 1.0,
        "retention_exact": 1.0,
    }
    assert summary == pytest.approx(expected)


def test_specificity_against_the_unedited_model_needs_no_truth(edits):
    def wrong_but_unchanged(batch):
        return jax.nn.one_hot(jnp.full_like(batch.answers, IDS["of"]), len(IDS))

    unedited = predictions(wrong_but_unchanged, grouped(edits))
    summary = summarize(scores_of(wrong_but_unchanged, edits, unedited))
    assert summary["specificity"] == 0.0 and summary["specificity_unedited"] == 1.0
    summary = summarize(scores_of(model(0), edits, unedited))
    assert summary["specificity"] == 1.0 and summary["specificity_unedited"] == 0.0


def test_without_old_answers_there_are_no_preferences(edits):
    bare = edits.replace(edit_old=None, rephrase_old=None, locality_new=None)
    scores = scores_of(model(3), bare)
    assert scores.efficacy.by_token is scores.unchanged is None
    names = set(summarize(scores))
    assert "efficacy" in names and not any("_by_" in name for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 5])
def test_batch_size_changes_no_summary(edits, size):
    others = encode_edits(RECORDS, TOKENIZER, size)
    one, other = (summarize(scores_of(model(2), own), 4) for own in (edits, others))
    assert {name: float(own) for name, own in one.items()} == pytest.approx(
        {name: float(own) for name, own in other.items()}
    )


def test_edits_that_are_yet_to_come_are_not_asked_about(edits):
    made = jnp.int32(2)
    scores = scores_of(model(5), edits, batches=made)
    np.testing.assert_array_equal(scores.real, [[1, 1], [1, 1], [0, 0]])
    first = jax.tree.map(lambda leaf: leaf[:2], edits)
    alone = summarize(scores_of(model(5), first))
    assert {name: float(own) for name, own in summarize(scores).items()} == pytest.approx(
        {name: float(own) for name, own in alone.items()}
    )


REAL = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], bool)
VALUES = np.array([[0.0, 0.2], [0.4, 0.6], [0.8, 1.0], [0.5, 9.0]], np.float32)


@pytest.mark.parametrize("first", [1, 3, 7, 500])
def test_retention_is_the_mean_of_the_first_edits(first):
    flat = VALUES[REAL]
    actual = retention_first(jnp.asarray(VALUES), jnp.asarray(REAL), first)
    assert float(actual) == pytest.approx(flat[:first].mean())


@pytest.mark.parametrize("groups", [1, 2, 3, 4])
def test_retention_by_age_is_that_of_a_loop(groups):
    ages, means = retention_by_age(jnp.asarray(VALUES), jnp.asarray(REAL), groups)
    for group in range(groups):
        rows = [index for index in range(4) if index * groups // 4 == group]
        edits = [(row, column) for row in rows for column in range(2) if REAL[row, column]]
        later = [REAL[row + 1 :].sum() for row, _ in edits]
        assert float(ages[group]) == pytest.approx(np.mean(later))
        assert float(means[group]) == pytest.approx(np.mean([VALUES[edit] for edit in edits]))


def test_numbers_that_make_no_mean_are_errors():
    with pytest.raises(ValueError, match="first=0"):
        retention_first(jnp.asarray(VALUES), jnp.asarray(REAL), 0)
    with pytest.raises(ValueError, match="groups=5 of 4 batches of edits: choose 1…4"):
        retention_by_age(jnp.asarray(VALUES), jnp.asarray(REAL), 5)


def test_every_metric_has_one_complete_card(edits):
    names = [card.name for card in METRIC_CARDS]
    summary = summarize(scores_of(model(1), edits, predictions(model(0), grouped(edits))))
    others = {"retention_by_age", "perplexity", "weight_shift", "weight_growth"}
    others |= {"untouched_recall", "known_recall", "multiple_choice"}
    assert len(set(names)) == len(names)
    assert set(names) == set(summary) | others
    for card in METRIC_CARDS:
        assert all(vars(card).values()) and card.better in ("higher", "lower", "none")
        assert not any("\n" in text for text in vars(card).values())


def test_answers_after_the_same_tokens_are_read_off_one_pass(edits):
    """Answers of one token, against the same questions asked in two passes."""
    short = [
        EditRecord(r.subject, r.prompt, "red" if i % 2 else r.target_new, r.target_true,
                   r.rephrases, r.locality)
        for i, r in enumerate(RECORDS)
    ]  # fmt: skip
    mixed = encode_edits(short, TOKENIZER, 2)
    groups = grouped(mixed)
    assert [group.one_row for group in groups] == [True, False]
    asked = [group.place[group.place < 18].size for group in groups]
    assert asked == [6, 9]  # two facts with their rephrased prompts and probes, and three
    apart = [group.replace(one_row=False) for group in groups]
    rows = []

    def counting(batch):
        rows.append(len(batch.tokens))
        return model(3)(batch)

    found = score_edits(counting, groups, mixed.real)
    expected = score_edits(model(3), apart, mixed.real)
    assert rows == [3, 6]
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert 0 < np.asarray(found.efficacy.by_probability).sum() < 5
    assert not any(group.one_row for group in grouped(edits))


def test_a_few_longer_answers_do_not_make_the_others_take_two_passes():
    def about(index, answer):
        own = RECORDS[index % 5]
        return EditRecord(
            own.subject, own.prompt, answer, own.target_true, own.rephrases, own.locality
        )

    facts = [about(index, "red") for index in range(40)] + [about(40, "red blue")]
    groups = grouped(encode_edits(facts, TOKENIZER, 1), rows=200)
    asked = [(group.one_row, int((group.place < 123).sum())) for group in groups]
    assert asked == [(True, 120), (False, 3)]


def test_answers_of_one_length_after_other_tokens_take_two_passes():
    own = RECORDS[0]
    fact = EditRecord(
        own.subject, own.prompt, "red blue", "green blue", own.rephrases, own.locality
    )
    assert not any(group.one_row for group in grouped(encode_edits([fact] * 3, TOKENIZER, 1)))
