"""Last-layer refit: balanced cells, L1 optimum, the standardiser folded back."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.editors.debiasing.erasure import layer_inputs
from modeledit_jax.editors.debiasing.refit import OUT, LastLayerRefit, balanced_fit, cells, halves
from modeledit_jax.editors.editor import Editor
from tests import tiny
from tests.editors import biased

KEY = jax.random.key(0)
FAST = LastLayerRefit(strengths=(1.0, 0.001), refits=5, trials=1)


def _groups(columns, terms=3):
    """Rows that mention the given column; -1 none, -2 the first two."""
    rows = np.zeros((len(columns), terms), np.float32)
    for row, column in zip(rows, columns, strict=True):
        row[: 2 if column == -2 else 0] = 1.0
        row[column if column >= 0 else slice(0, 0)] = 1.0
    return rows


def test_cells_join_small_groups_and_leave_out_what_stays_small():
    columns = np.repeat([-1, 0, 1, 2, -2], [4, 4, 2, 2, 1])
    label = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0], np.int32)
    # Terms 1 and 2 have one comment of each label: together, with the pair of terms, 2 and 3.
    expected = np.concatenate([[0, 0, 1, 1], [2, 2, 3, 3], [8, 9, 8, 9, 8]])
    np.testing.assert_array_equal(cells(label, _groups(columns), 2), expected)
    # At three, only what is left over is too small.
    label = np.concatenate([label, label[:8]])
    columns = np.concatenate([columns, columns[:8]])
    found = cells(label, _groups(columns), 3)
    np.testing.assert_array_equal(found[8:13], OUT)
    assert set(found) == {OUT, 0, 1, 2, 3}
    with pytest.raises(ValueError, match="no group of the reward role has 20 comments of each"):
        cells(label, _groups(columns), 20)


def test_halves_keep_blocks_whole_and_split_every_cell():
    rng = np.random.default_rng(0)
    cell = np.concatenate([np.repeat([0, 1, 2, 3], [5, 4, 4, 4]), np.tile([2, 4], 4)])
    cell[21:] += 1  # the last two blocks are toxic
    blocks = np.arange(17, 25).reshape(4, 2)
    first = halves(cell, blocks, rng)
    assert np.all(first[blocks[:, 0]] == first[blocks[:, 1]])
    assert [first[17 + 4 * i : 21 + 4 * i].sum() for i in (0, 1)] == [2, 2]
    assert [first[:17][cell[:17] == c].sum() for c in range(4)] == [3, 2, 2, 2]
    assert halves(cell[:17], np.zeros((0, 0), int), rng).sum() == 9


def test_a_balanced_fit_meets_the_conditions_of_the_l1_optimum():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    label = (x[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(np.int32)
    cell = label.copy()
    members = [np.flatnonzero(label == y) for y in (0, 1)]
    size = min(map(len, members))
    cell[np.concatenate([own[size:] for own in members])] = OUT  # balanced: one subsample there is
    w, b = balanced_fit(x, label, cell, 0.05, 3, rng)
    used = cell != OUT
    slope = -0.05 * x[used].T @ (label[used] - 1 / (1 + np.exp(-(x[used] @ w + b))))
    # Stationarity: the loss balances the sign where a weight is not zero, and is within 1 else.
    np.testing.assert_allclose(slope[w != 0], -np.sign(w[w != 0]), atol=0.02)
    assert np.all(np.abs(slope[w == 0]) <= 1.02) and 0 < (w != 0).sum() < 4


def test_subsamples_have_as_many_of_every_cell():
    x = np.concatenate([np.zeros((90, 1)), np.ones((10, 1))])
    label = np.arange(100) % 2
    label[90:] = 1
    label = label.astype(np.int32)
    cell = np.where(label == 0, 0, np.where(np.arange(100) < 90, 1, 2))
    # Only in 10 : 10 : 10 are two of three toxic, so that the constant is ln 2.
    _, b = balanced_fit(np.zeros((100, 1)), label, cell, 100.0, 2, np.random.default_rng(0))
    np.testing.assert_allclose(b, np.log(2), atol=0.01)
    assert x.sum() == 10


def test_the_head_alone_is_refitted_and_bias_falls():
    task = biased.task()
    result = FAST.edit(task, KEY)
    assert biased.changed(result.params) == {"head/kernel", "head/bias"}
    assert result.params["head"]["kernel"].shape == (8, 1)
    assert result.cost.reward_evaluations == 0 and isinstance(FAST, Editor)
    worst = result.trace["worst_accuracy"]
    assert result.trace["strength"] == 1.0 and worst[1.0] > worst[0.001]
    assert biased.accuracy(result.params) > 0.6
    assert biased.dispersion(result.params) < biased.dispersion(biased.subject_params())
    again = FAST.edit(task, KEY)
    chex.assert_trees_all_equal(result.params, again.params)


def test_the_standardiser_is_folded_into_the_head():
    task = biased.task()
    result = LastLayerRefit(strengths=(1.0,), refits=1, trials=1).edit(task, KEY)
    x = jnp.asarray(task.roles["reward"].x)
    h = layer_inputs(task.subject, "head/kernel", x)
    scale = np.where(h.std(axis=0) > 0, h.std(axis=0), 1.0)
    w = np.asarray(result.params["head"]["kernel"])[:, 0] * scale  # of standardized features
    standard = (h - h.mean(axis=0)) / scale
    logits = np.asarray(task.subject.apply(result.params, x))[:, 0]
    offset = logits - standard @ w
    np.testing.assert_allclose(offset, offset[0], atol=1e-4)
    assert abs(offset[0]) < 1.0 and np.std(logits) > 0.3


def test_bad_input_names_the_cure():
    with pytest.raises(ValueError, match="lower min_cell"):
        LastLayerRefit(min_cell=10_000).edit(biased.task(), KEY)
    with pytest.raises(ValueError, match="has no comments with identity terms"):
        FAST.edit(tiny.task(), KEY)
