"""A choice of leaves in front of an action: against the edit of the chosen leaves alone."""

import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.edits.edit import Edit
from modeledit_jax.edits.operator import mask, shift
from modeledit_jax.edits.parametrization import LowRank, PerColumn, PerRow, PerWeight
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.edits.site_choice import SiteChoice, site_choice
from tests import tiny

PATHS = ("fc1/kernel", "fc2/bias", "fc2/kernel")
LEAVES = get_leaves(tiny.subject().params, PATHS)
EDITS = [
    Edit.of(LEAVES, operator, parametrization, SiteChoice(number, 3))
    for operator in (mask, shift)
    for parametrization in (LowRank(3), PerWeight(), PerRow(), PerColumn())
    for number in (1, 2)
]


def _ids(edit):
    return f"{edit.operator.__name__}-{type(edit.parametrization).__name__}-{edit.choice.number}"


def _bits(leaf):
    return np.asarray(leaf).view(np.uint32)


def _action(edit, seed, scores):
    rest = jax.random.normal(jax.random.key(seed), (edit.action_size - len(scores),))
    return jnp.concatenate([jnp.asarray(scores, jnp.float32), rest])


@pytest.mark.parametrize("edit", EDITS, ids=_ids)
def test_chosen_leaves_are_edited_as_without_a_choice_and_the_others_keep_their_bits(edit):
    plain = Edit.of(LEAVES, edit.operator, edit.parametrization)
    assert edit.action_size == 3 + plain.action_size
    for seed, order in enumerate(itertools.permutations(range(3))):
        action = _action(edit, seed, [-0.1 + 0.05 * rank for rank in order])
        found = edit(LEAVES, LEAVES, action)
        expected = plain(LEAVES, LEAVES, action[3:])
        best = set(np.argsort(order)[-edit.choice.number :])
        for index, path in enumerate(PATHS):
            wanted = expected[path] if index in best else LEAVES[path]
            np.testing.assert_array_equal(_bits(found[path]), _bits(wanted))
            assert (index in best) == bool(np.any(found[path] != LEAVES[path]))


@pytest.mark.parametrize("edit", EDITS, ids=_ids)
def test_without_matrices_no_scores_change_anything(edit):
    for scores in ([0.0, 0.0, 0.0], [1.0, -2.0, 3.0]):
        action = jnp.zeros(edit.action_size).at[:3].set(jnp.asarray(scores))
        for path, leaf in edit(LEAVES, LEAVES, action).items():
            np.testing.assert_array_equal(_bits(leaf), _bits(LEAVES[path]))


@pytest.mark.parametrize("parametrization", [LowRank(2), PerRow(), PerColumn()])
def test_factors_of_leaves_that_are_not_chosen_multiply_to_zero(parametrization):
    edit = Edit.of(LEAVES, shift, parametrization, SiteChoice(1, 3))
    factors = edit.factors(_action(edit, 0, [0.0, 0.1, 0.2]), LEAVES)
    products = {path: np.asarray(left @ right.T) for path, (left, right) in factors.items()}
    assert [bool(np.any(products[path])) for path in PATHS] == [False, False, True]


def test_compiled_and_side_by_side_it_is_the_same():
    edit = Edit.of(LEAVES, shift, LowRank(2), SiteChoice(2, 3))
    actions = jax.random.normal(jax.random.key(2), (6, edit.action_size))
    together = jax.jit(jax.vmap(edit, (None, None, 0)))(LEAVES, LEAVES, actions)
    for index, action in enumerate(actions):
        for path, leaf in edit(LEAVES, LEAVES, action).items():
            np.testing.assert_allclose(together[path][index], leaf, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 0, 0]),
        ([0.1, 0.3, 0.2, 0.3], [0, 1, 0, 1]),
        ([-3.0, -1.0, -2.0, -1.0], [0, 1, 0, 1]),
        ([0.2, 0.1, 0.2, 0.2], [1, 0, 1, 0]),
    ],
)
def test_the_highest_scores_win_and_of_equal_ones_the_first(scores, expected):
    choice, scores = SiteChoice(2, 4), jnp.asarray(scores)
    np.testing.assert_array_equal(choice.chosen(scores), np.array(expected, bool))
    np.testing.assert_array_equal(choice.chosen(1e3 * scores), choice.chosen(scores))  # no unit


def test_scores_that_are_no_numbers_choose_no_more_leaves():
    for scores in ([jnp.nan] * 4, [jnp.nan, 1.0, jnp.nan, jnp.nan], [jnp.inf] * 4):
        assert SiteChoice(2, 4).chosen(jnp.asarray(scores)).sum() == 2


def test_a_search_starts_with_equal_scores_or_with_a_choice_that_exploring_keeps():
    edit = Edit.of(LEAVES, shift, LowRank(2), SiteChoice(1, 3))
    key = jax.random.key(4)
    start = edit.start(key)
    np.testing.assert_array_equal(start[:3], 0.0)
    np.testing.assert_array_equal(start[3:], Edit.of(LEAVES, shift, LowRank(2)).start(key))
    drawn, counts = SiteChoice(2, 4, drawn=True), Counter()
    noise = 0.5 * jax.random.normal(key, (100, 4))
    for own in jax.random.split(key, 120):
        scores = drawn.start(own)
        chosen = np.asarray(drawn.chosen(scores))
        assert chosen.sum() == 2 and np.abs(scores).max() <= 10
        assert np.all(np.asarray(jax.vmap(drawn.chosen)(scores + noise)) == chosen)
        counts[tuple(chosen)] += 1
    assert len(counts) == 6 and min(counts.values()) >= 8  # 20 of each are expected


@pytest.mark.parametrize(
    ("number", "of", "drawn", "message"),
    [
        (0, 3, False, "sites_chosen=0: choose 1 to 2 of the site's 3 leaves, or leave it out"),
        (3, 3, False, "sites_chosen=3: choose 1 to 2 of the site's 3 leaves, or leave it out"),
        (-1, 2, True, "sites_chosen=-1: choose 1 to 1 of"),
        (1, 1, False, "sites_chosen=1: the site is one leaf, .* name several leaves"),
        (None, 3, True, "sites_drawn draws which leaves are edited: say how many, sites_chosen"),
    ],
)
def test_what_is_no_choice_is_refused_in_a_line(number, of, drawn, message):
    with pytest.raises(ValueError, match=message) as error:
        site_choice(number, of, drawn)
    assert "\n" not in str(error.value)
    assert site_choice(None, of) is None
