"""Draws: range, balance, and a stream that stays what it was."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.data.stable_random import StableRandom

GOLDEN = [889, 557, 800, 956]
GOLDEN_ORDER = ["d", "a", "b", "f", "e", "c"]


def test_the_stream_is_the_published_one():
    draws = StableRandom(0, 1)
    assert [draws.below(1_000) for _ in range(4)] == GOLDEN
    assert draws.shuffled("abcdef") == GOLDEN_ORDER


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_below_gives_every_integer_about_equally_often(limit):
    draws = StableRandom(3)
    counts = Counter(draws.below(limit) for _ in range(700))
    assert set(counts) == set(range(limit))
    assert max(counts.values()) < 2 * min(counts.values())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), items=st.integers(1, 9), size=st.integers(1, 40))
def test_balanced_counts_differ_by_at_most_one(seed, items, size):
    drawn = StableRandom(seed).balanced(range(items), size)
    counts = [drawn.count(item) for item in range(items)]
    assert sum(counts) == len(drawn) == size
    assert max(counts) - min(counts) <= 1


def test_shuffled_keeps_the_items_and_follows_the_seed():
    items = list(range(30))
    first, again, other = (StableRandom(seed).shuffled(items) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other) == items
