"""The four roles are disjoint, exhaustive, stratified and reproducible."""

import chex
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.data.images.datasets import ImageData, load_images
from modeledit_jax.data.images.splits import ROLES, _allocate, split_images
from modeledit_jax.types import Examples
from tests import tiny


def _tagged(y: np.ndarray, y_test: np.ndarray | None = None) -> ImageData:
    """A data set whose pixels number its rows, those of the test set with negative numbers."""

    def tag(labels: np.ndarray, sign: int) -> np.ndarray:
        return (sign * (1.0 + np.arange(len(labels), dtype=np.float32)))[:, None, None, None]

    classes = int(y.max()) + 1
    y = y.astype(np.int32)
    if y_test is None:
        return ImageData("tagged", tag(y, 1), y, None, None, classes)
    return ImageData("tagged", tag(y, 1), y, tag(y_test, -1), y_test.astype(np.int32), classes)


def _tags(examples) -> np.ndarray:
    return examples.x[:, 0, 0, 0].astype(int)


@st.composite
def _problems(draw):
    class_sizes = draw(st.lists(st.integers(40, 90), min_size=2, max_size=6))
    y = np.repeat(np.arange(len(class_sizes)), class_sizes)
    share = st.integers(len(y) // 10, len(y) // 4)
    seed = draw(st.integers(0, 2**32))
    y = np.random.default_rng(seed).permutation(y)
    return y, {role: draw(share) for role in ("reward", "select", "test")}, seed


@given(_problems())
@settings(deadline=None, max_examples=25)
def test_roles_partition_the_rows_and_keep_class_shares(problem):
    y, sizes, seed = problem
    splits = split_images(_tagged(y), **sizes, seed=seed)
    tags = np.concatenate([_tags(getattr(splits, role)) for role in ROLES])
    np.testing.assert_array_equal(np.sort(tags), 1 + np.arange(len(y)))
    for role in ROLES:
        examples = getattr(splits, role)
        np.testing.assert_array_equal(examples.y, y[_tags(examples) - 1])
        assert role == "train" or len(examples) == sizes[role]
        ideal = len(examples) * np.bincount(y) / len(y)
        assert np.abs(np.bincount(examples.y, minlength=len(ideal)) - ideal).max() <= 1


@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=12),
    st.lists(st.integers(0, 10**6), min_size=3, max_size=3),
)
@settings(deadline=None, max_examples=25)
def test_allocation_keeps_both_margins(class_sizes, cuts):
    class_sizes = np.array(class_sizes)
    total = int(class_sizes.sum())
    role_sizes = np.diff([0, *sorted(cut % (total + 1) for cut in cuts), total])
    counts = _allocate(role_sizes, class_sizes)
    np.testing.assert_array_equal(counts.sum(axis=0), class_sizes)
    np.testing.assert_array_equal(counts.sum(axis=1), role_sizes)
    rounded_up = counts - role_sizes[:, None] * class_sizes // total
    assert set(np.unique(rounded_up)) <= {0, 1}


def test_seed_decides_and_order_is_shuffled():
    data = _tagged(np.arange(400) % 4)
    first, again, other = (split_images(data, seed=seed) for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    for role in ROLES:
        tags = _tags(getattr(first, role))
        assert not np.array_equal(tags, _tags(getattr(other, role)))
        assert not np.array_equal(tags, np.sort(tags))


def test_digits_defaults():
    splits = split_images(load_images("digits"))
    assert [len(getattr(splits, role)) for role in ROLES] == [773, 449, 216, 359]
    assert splits.num_classes == 10 and len(jax.tree.leaves(splits)) == 8
    assert splits.train.x.dtype == np.float32 and splits.train.y.dtype == np.int32
    assert splits.train.x.shape == (773, 8, 8, 1)


@pytest.mark.parametrize(
    ("rows", "expected"), [(20_000, [10_000, 5_000, 5_000]), (1_000, [630, 250, 120])]
)
def test_official_test_set_stays_untouched(rows, expected):
    data = _tagged(np.arange(rows) % 10, np.arange(30) % 10)
    splits = split_images(data)
    assert [len(getattr(splits, role)) for role in ROLES[:3]] == expected
    np.testing.assert_array_equal(_tags(splits.test), -1 - np.arange(30))
    assert all((_tags(getattr(splits, role)) > 0).all() for role in ROLES[:3])


def test_sizes_that_do_not_fit():
    data = _tagged(np.arange(40) % 2)
    for sizes in ({"reward": 40}, {"select": 0}, {"test": -3}, {"reward": 20, "select": 12}):
        with pytest.raises(ValueError, match="tagged has 40 rows to share, which gives"):
            split_images(data, **sizes)
    official = _tagged(np.arange(40) % 2, np.arange(4) % 2)
    with pytest.raises(ValueError, match="leave test unset"):
        split_images(official, test=10)


def test_every_class_must_appear_in_every_role():
    rare = np.r_[np.zeros(50, int), np.ones(3, int)]
    with pytest.raises(ValueError, match="of tagged has no row of class 1: give the role more"):
        split_images(_tagged(rare))
    with pytest.raises(ValueError, match="role test of tagged has no row of class 1"):
        split_images(_tagged(np.arange(40) % 2, np.zeros(3, int)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y + 1, "y of the role select holds labels from 1 to 3"),
        (lambda y: y[:, None], "y of the role select has shape"),
        (lambda y: y.astype(np.float32), "y of the role select has dtype float32"),
        (lambda y: y[:-1], "x of the role select has shape"),
    ],
)
def test_splits_made_by_hand_are_checked(change, message):
    whole = tiny.splits()
    with pytest.raises(ValueError, match=message):
        whole.replace(select=Examples(whole.select.x, change(whole.select.y)))


def test_splits_pass_through_transformations_unchecked():
    whole = tiny.splits()
    shapes = jax.tree.map(np.shape, whole)
    assert shapes.train.y == (tiny.SIZES["train"],)
    assert jax.eval_shape(lambda s: s.train.y, whole).shape == (tiny.SIZES["train"],)
