from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from modeledit_jax.agents.shuffling import SORTED, permutation


@pytest.mark.parametrize("size", (1, 2, SORTED, SORTED + 1, 777, 1024, 1025, 2048, 3000, 65_536))
def test_every_number_once(size):
    order = jax.jit(partial(permutation, size=size))(jax.random.key(size))
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


def test_few_numbers_are_those_of_jax():
    key = jax.random.key(3)
    np.testing.assert_array_equal(permutation(key, 100), jax.random.permutation(key, 100))


def test_keys_in_one_call_are_those_one_by_one():
    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.vmap(partial(permutation, size=1000))(keys)
    for order, key in zip(together, keys, strict=True):
        np.testing.assert_array_equal(order, permutation(key, 1000))
    assert len(np.unique(together, axis=0)) == 3


@pytest.mark.parametrize("size", (600, 1024))
def test_orders_look_random(size):
    """Means and counts over keys that a uniform permutation would have."""
    keys = jax.random.split(jax.random.key(7), 20_000)
    orders = np.asarray(jax.jit(jax.vmap(partial(permutation, size=size)))(keys))
    # Where one number comes out, and which number comes out at one place.
    for values in (orders[:, size // 3], np.argmax(orders == 5, axis=1)):
        assert stats.chisquare(np.bincount(values * 20 // size, minlength=20)).pvalue > 1e-3
    # Neighbors are independent, as far as two numbers that differ can be.
    pairs = (orders[:, 10] * 5 // size) * 5 + orders[:, 11] * 5 // size
    assert stats.chisquare(np.bincount(pairs, minlength=25)).pvalue > 1e-3
    # One of two numbers precedes the other as often as not, and a number stays seldom.
    first = np.argmax(orders == 0, axis=1) < np.argmax(orders == 1, axis=1)
    assert abs(first.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(keys))
    fixed = (orders == np.arange(size)).sum(1)
    assert abs(fixed.mean() - 1) < 4 / np.sqrt(len(keys))
    assert abs(fixed.var() - 1) < 0.06
