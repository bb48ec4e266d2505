"""The lexicon of fact-world: complete, without doubles, every relation in all phrasings."""

import pytest

from modeledit_jax.data.facts import lexicon


@pytest.mark.parametrize("kind", lexicon.KINDS, ids=lambda kind: kind.name)
def test_a_kind_has_four_relations_with_answers_and_phrasings_of_their_own(kind):
    assert len(kind.relations) == 4
    assert "{invented}" in kind.form
    assert ("{shared}" in kind.form) == bool(kind.shared)
    names = [relation.name for relation in kind.relations]
    assert len(set(names)) == len(names)
    for relation in kind.relations:
        assert len(set(relation.answers)) == len(relation.answers) > 1
        assert len(set(relation.phrasings)) == len(relation.phrasings) == 5
        assert all(text.count("{}") == 1 for text in relation.phrasings)


def test_training_and_held_out_phrasings_share_none():
    phrasings = list(range(5))
    training = phrasings[lexicon.TRAINING_PHRASINGS]
    held_out = phrasings[lexicon.HELD_OUT_PHRASINGS]
    assert training and held_out and not set(training) & set(held_out)
    assert 0 not in held_out  # the first phrasing is the prompt of an edit
