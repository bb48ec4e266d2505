"""Questions in groups of one length: each asked once, with its answers, in the order of edits."""

import jax
import numpy as np
import pytest

from modeledit_jax.data.facts.questions import group_questions
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, pad_batch

LONG = (5, 11, 30, 60)  # tokens of a prompt


def stream(lengths, batches=10, size=2):
    """Facts with prompts of these lengths, in turn; answers of one token or two, rivals of one."""
    rng = np.random.default_rng(0)

    def part(shift, rival):
        prompts = [
            rng.integers(1, 9, lengths[(i + shift) % len(lengths)]).tolist()
            for i in range(batches * size)
        ]
        answers = [
            rng.integers(1, 9, 1 if rival else 1 + i % 2).tolist() for i in range(len(prompts))
        ]
        batch = pad_batch(prompts, answers, max(lengths) + 1)
        return jax.tree.map(lambda leaf: leaf.reshape(batches, size, -1), batch)

    parts = [part(shift, rival) for rival in (False, True) for shift in range(3)]
    return FactBatch(*parts, np.zeros((batches, size), np.int32))


@pytest.fixture(scope="module")
def facts():
    return stream(LONG)


@pytest.fixture(scope="module")
def groups(facts):
    return group_questions(facts, lambda places: 7)


def test_every_question_is_asked_once(facts, groups):
    places = np.concatenate([np.ravel(group.place) for group in groups])
    assert sorted(places[places < 60]) == list(range(60))
    assert (places[places >= 60] == 60).all()
    kinds = (facts.edit, facts.rephrase, facts.locality)
    rivals = (facts.edit_old, facts.rephrase_old, facts.locality_new)
    for group in groups:
        for name, streams in (("wanted", kinds), ("rival", rivals)):
            rows = getattr(group, name)
            for spot, tokens, labels, attention in zip(
                np.ravel(group.place),
                *(np.asarray(leaf).reshape(-1, leaf.shape[-1])
                  for leaf in (rows.tokens, rows.labels, rows.attention)),
                strict=True,
            ):  # fmt: skip
                if spot == 60:
                    assert not attention.any() and (labels == IGNORED).all()
                    continue
                kind, edit = divmod(int(spot), 20)
                own = streams[kind]
                length = int(np.asarray(own.attention).reshape(20, -1)[edit].sum())
                assert attention.sum() == length
                for got, leaf in ((tokens, own.tokens), (labels, own.labels)):
                    whole = np.asarray(leaf).reshape(20, -1)[edit]
                    np.testing.assert_array_equal(got[:length], whole[:length])


def test_answers_are_the_labels_in_their_order(groups):
    for group in groups:
        for rows in (group.wanted, group.rival):
            labels = np.asarray(rows.labels).reshape(-1, rows.labels.shape[-1])
            answers = np.asarray(rows.answers).reshape(len(labels), -1)
            for row, answer in zip(labels, answers, strict=True):
                assert answer[answer != IGNORED].tolist() == row[row != IGNORED].tolist()
        assert group.wanted.answers.shape == group.rival.answers.shape


def test_groups_are_as_long_as_their_rows(groups):
    assert [group.wanted.tokens.shape[-1] for group in groups] == [12, 48, 61]


def test_few_long_rows_do_not_make_a_group():
    groups = group_questions(stream((5,) * 38 + (20, 60), batches=20), lambda places: 7)
    assert [group.wanted.tokens.shape[-1] for group in groups] == [12, 61]


def test_chunks_begin_with_their_earliest_edit(groups):
    for group in groups:
        edits = np.where(np.asarray(group.place) < 60, np.asarray(group.place) % 20, 99)
        np.testing.assert_array_equal(group.first, edits.min(1))
        assert (np.diff(edits.ravel()[edits.ravel() < 99]) >= 0).all()


def test_without_old_answers_there_are_no_rivals(facts):
    bare = facts.replace(edit_old=None, rephrase_old=None, locality_new=None)
    assert all(group.rival is None for group in group_questions(bare, lambda places: 7))
