"""The paired block bootstrap against hand-computed cases and a plain loop."""

import numpy as np
import pytest

from modeledit_jax.evaluation.block_bootstrap import (
    draw_blocks,
    equality_difference_samples,
    paired_block_bootstrap,
)

WRONG = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)


def _plain(wrong, rows, columns=slice(None)):
    rates = [np.mean([wrong[row, term] for row in rows]) for term in range(wrong.shape[1])]
    return np.mean([abs(rate - np.mean(rates)) for rate in rates][columns])


def test_the_difference_of_all_blocks_by_hand():
    # Rates 3/4, 1/4, 0; overall 1/3: gaps 5/12, 1/12, 4/12.
    found = equality_difference_samples(WRONG, np.ones((1, 4), int))
    np.testing.assert_allclose(found, [10 / 36])
    only = equality_difference_samples(WRONG, np.ones((1, 4), int), np.array([False, True, False]))
    np.testing.assert_allclose(only, [1 / 12])


def test_resamples_equal_a_plain_loop():
    draws = np.array([[2, 0, 1, 1], [0, 0, 0, 4], [1, 3, 0, 0]])
    found = equality_difference_samples(WRONG, draws)
    expected = [_plain(WRONG, np.repeat(np.arange(4), row)) for row in draws]
    np.testing.assert_allclose(found, expected)


def test_every_resample_has_as_many_blocks():
    draws = draw_blocks(7, 50, np.random.default_rng(0))
    assert draws.shape == (50, 7) and np.all(draws.sum(axis=1) == 7)
    assert len(np.unique(draws, axis=0)) > 40


def test_an_edit_that_changes_nothing_has_exactly_no_gain():
    for relative in (False, True):
        found = paired_block_bootstrap([WRONG, WRONG], [WRONG, WRONG], relative=relative, reps=200)
        assert tuple(found) == (0.0, 0.0, 0.0)


def test_a_perfect_edit_removes_everything():
    found = paired_block_bootstrap([WRONG], [np.zeros_like(WRONG)], relative=True, reps=500)
    assert found.point == -1.0 and found.high == -1.0
    absolute = paired_block_bootstrap([WRONG], [np.zeros_like(WRONG)], reps=500)
    np.testing.assert_allclose(absolute.point, -10 / 36)
    assert absolute.low < absolute.point < absolute.high <= 0


def test_a_change_relative_to_no_difference_is_undefined_without_a_warning():
    equal = np.ones((4, 3), bool)
    found = paired_block_bootstrap([equal], [WRONG], relative=True, reps=20)
    assert np.isnan(found[:3]).all()
    assert paired_block_bootstrap([equal], [WRONG], reps=20).point > 0


def test_the_point_is_the_mean_over_networks():
    other = WRONG[:, ::-1]
    better = np.zeros_like(WRONG)
    found = paired_block_bootstrap([WRONG, other], [better, other], reps=50)
    np.testing.assert_allclose(found.point, -10 / 72)
    relative = paired_block_bootstrap([WRONG, other], [better, other], relative=True, reps=50)
    np.testing.assert_allclose(relative.point, -0.5)


def test_the_interval_has_the_spread_of_independent_blocks():
    """One network, two terms: the gap is |p − q| / 2, whose spread is that of a binomial rate."""
    rng = np.random.default_rng(1)
    wrong = np.stack([rng.random(400) < 0.5, np.zeros(400, bool)], axis=1)
    found = paired_block_bootstrap([np.zeros_like(wrong)], [wrong], reps=4000)
    rate = wrong[:, 0].mean()
    expected = 1.96 * np.sqrt(rate * (1 - rate) / 400) / 2
    np.testing.assert_allclose(
        [found.point - found.low, found.high - found.point], expected, rtol=0.1
    )


def test_networks_are_drawn_too():
    """Networks that disagree leave the sign open, however many blocks each has."""
    bad, good = np.tile([True, False], (500, 1)), np.zeros((500, 2), bool)
    found = paired_block_bootstrap([bad, good, bad], [good, bad, good], reps=1000)
    assert found.low < 0 < found.high


def test_unpaired_networks_are_refused():
    with pytest.raises(ValueError, match="need pairs of networks, got 1 before and 2 after"):
        paired_block_bootstrap([WRONG], [WRONG, WRONG])
