"""Real comments with contexts: roles, folds, overlap, and what is refused."""

import numpy as np
import pytest

from modeledit_jax.data.comments.contexts import WIDEST
from modeledit_jax.data.comments.person_words import PERSON_WORDS
from modeledit_jax.data.comments.real_comments import (
    EACH,
    FOLDS,
    HARMLESS,
    SIZES,
    load_with_contexts,
)
from modeledit_jax.data.comments.terms import DIXON_TERMS
from modeledit_jax.data.comments.text import find_identities, mentions, tokenize
from modeledit_jax.data.comments.views import texts_of
from tests.data.comment_files import FURTHER, TERMS, comment_rows, jigsaw, write_sentences


def write(folder):
    jigsaw(folder, comment_rows(480))
    return write_sentences(folder)


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return load_with_contexts("jigsaw", data_dir=write(tmp_path_factory.mktemp("data")))


def words(data, part):
    texts = texts_of(data)
    return [tokenize(texts[number - 2]) for number in np.asarray(part.tokens)[:, 0]]


def test_folds_share_all_but_what_the_reward_shows(folds):
    first, *others = folds
    assert len(folds) == FOLDS
    for other in others:
        assert other.vocabulary == first.vocabulary and other.identities == first.identities
        assert other.roles == first.roles and other.suites == first.suites
        assert other.counterfactuals["test"] is first.counterfactuals["test"]
    held_out = np.array([data.held_out for data in folds])
    assert np.all(held_out.sum(axis=0) <= 1) and held_out.sum() >= len(first.identities) - 2


def test_the_reward_shows_no_held_out_term(folds):
    for data in folds:
        hidden = [term for term, out in zip(data.identities, data.held_out, strict=True) if out]
        for role in ("reward", "select"):
            part = data.counterfactuals[role]
            assert part.blocks.shape[1] == 2 * EACH
            assert not find_identities(words(data, part), hidden).any()
            named = find_identities(words(data, part), data.identities)
            np.testing.assert_array_equal(part.groups, named)
            assert np.all(part.groups[part.blocks].sum(axis=(1, 2)) == EACH)


def test_nested_folds_show_what_a_reward_is_chosen_by(tmp_path):
    """The terms of a fold are in neither role, those held out besides in ``select`` alone."""
    jigsaw(tmp_path, comment_rows(480, further=FURTHER))
    nested, plain = (
        load_with_contexts("jigsaw", data_dir=write_sentences(tmp_path), nested=nested)
        for nested in (True, False)
    )
    for fold, (data, outer) in enumerate(zip(nested, plain, strict=True)):
        hidden, inner = np.array(outer.held_out), np.array(data.held_out)
        assert inner.sum() > 1 and not np.any(hidden & inner)
        assert np.all(np.array(plain[(fold + 1) % FOLDS].held_out)[inner])
        reward, select = (data.counterfactuals[role] for role in ("reward", "select"))
        assert reward.blocks.shape[1] == 2 * EACH
        assert not reward.groups[:, hidden | inner].any()
        terms = select.groups[select.blocks].argmax(axis=2)
        assert np.all(terms == terms[0]) and np.all(select.groups.sum(axis=1) == 1)
        shown = np.flatnonzero(reward.groups.any(axis=0))
        assert set(terms[0]) == {*shown, *np.flatnonzero(inner)}
        assert set(select.kind) == set(range(len(SIZES["select"])))
        np.testing.assert_array_equal(
            find_identities(words(data, select), data.identities), select.groups
        )


def test_contexts_of_the_reward_know_their_kind(folds):
    """Windows, slots, natural mentions, sentences; a block is of one, and the test needs none."""
    for role in ("reward", "select"):
        part = folds[0].counterfactuals[role]
        kind = part.kind[part.blocks]
        assert np.all(kind == kind[:, :1]) and set(kind[:, 0]) == set(range(len(SIZES[role])))
        lengths = np.array([len(row) for row in words(folds[0], part)])
        longest = max(len(word.split()) for word in (*folds[0].identities, *PERSON_WORDS))
        assert lengths[part.kind == 0].max() <= 2 * WIDEST + longest < lengths[part.kind > 0].max()
        assert not part.label[part.kind == 3].any() and part.label[part.kind == 1].any()
    assert folds[0].counterfactuals["test"].kind is None


def test_test_blocks_hold_every_term(folds):
    data = folds[0]
    sets = {"windows": data.counterfactuals["test"], **data.suites}
    assert set(sets) == {"windows", "natural", "slots", "wikipedia"}
    for kind, part in sets.items():
        assert len(part.blocks) <= SIZES["test"][kind]
        terms = part.groups[part.blocks].argmax(axis=2)
        np.testing.assert_array_equal(
            terms, np.tile(np.arange(len(data.identities)), (len(terms), 1))
        )
        np.testing.assert_array_equal(
            find_identities(words(data, part), data.identities), part.groups
        )
        assert np.all(part.label[part.blocks] == part.label[part.blocks[:, :1]])
    assert not data.suites["wikipedia"].label.any()


def frames(data, part):
    """Words around the term of the first text of every block."""
    found = set()
    rows = words(data, part.replace(tokens=np.asarray(part.tokens)[np.asarray(part.blocks)[:, 0]]))
    for row in rows:
        (begin, end, _), *others = mentions(row, data.identities)
        assert not others
        before = [*row[:begin]]
        before[-1:] = ["a" if word == "an" else word for word in before[-1:]]
        found.add((" ".join(before), " ".join(row[end:])))
    return found


def test_no_context_is_in_two_roles(folds):
    data = folds[0]
    test = set().union(
        *(frames(data, p) for p in (data.counterfactuals["test"], *data.suites.values()))
    )
    reward, select = (frames(data, data.counterfactuals[role]) for role in ("reward", "select"))
    assert min(len(test), len(reward), len(select)) > 10
    assert not reward & select and not reward & test and not select & test
    assert any(" 0 with" not in note for note in data.notes if "of another role left out" in note)


def test_the_reward_knows_training_comments(folds):
    data = folds[0]
    train, reward = data.roles["train"], data.roles["reward"]
    own = len(reward) - len(train)  # of so few comments all
    assert own > 0 and len(train) < HARMLESS
    np.testing.assert_array_equal(reward.tokens[own:], train.tokens)
    assert not set(reward.tokens[:own, 0]) & set(train.tokens[:, 0])


def test_balance_and_sizes(tmp_path):
    (tmp_path / "jigsaw").mkdir()
    rows = [row for i, row in enumerate(comment_rows(700)) if row[2] == "0" or i % 6 == 1]
    jigsaw(tmp_path, rows)
    whole, *_ = load_with_contexts("jigsaw", data_dir=tmp_path, folds=(2,))
    counts = [np.mean(part.label) for part in whole.roles.values()]
    assert np.allclose(counts, 0.25, atol=0.05)
    even, *_ = load_with_contexts("jigsaw", data_dir=tmp_path, balanced=True, folds=(2,))
    assert np.mean(even.roles["train"].label) == pytest.approx(0.5, abs=0.01)
    assert set(whole.suites) == {"natural", "slots"} and not whole.added
    assert any("suite wikipedia absent" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": (3,)}, r"folds are \[3\]: name thirds of the terms, 0 to 2"),
        ({"folds": ()}, r"folds are \[\]"),
        ({"name": "civil_comments"}, "no contexts are made of civil_comments"),
    ],
)
def test_options_that_will_not_do(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_with_contexts(**{"name": "jigsaw", "data_dir": tmp_path} | options)


def test_comments_that_will_not_do(tmp_path):
    rows = comment_rows(480)
    without = [[i, text.replace("person", "thing"), y, z] for i, text, y, z in rows]
    with pytest.raises(ValueError, match="give no context of the kind slots: raise size"):
        load_with_contexts("jigsaw", data_dir=jigsaw(tmp_path, without))
    plain = [
        [i, " ".join("red" if w in {*TERMS, "african", "middle"} else w for w in t.split()), y, z]
        for i, t, y, z in rows
    ]
    with pytest.raises(ValueError, match=r"2? ?of 50 identity terms occur in the 3\d\d training"):
        load_with_contexts("jigsaw", data_dir=jigsaw(tmp_path, plain))
    assert len(DIXON_TERMS) == 50


def test_a_damaged_file_of_sentences(tmp_path):
    folder = write(tmp_path)
    path = folder / "dixon" / "toxicity_debiasing_data.tsv"
    path.write_text(path.read_text().replace("\tdev", "\tnone", 1))
    with pytest.raises(ValueError, match="line 3: split 'none', is_toxic 'False': this file has"):
        load_with_contexts("jigsaw", data_dir=folder)
