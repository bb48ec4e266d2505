"""RECT and PRUNE against NumPy, and against the method that they restrain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.restraint import (
    Prune,
    Rect,
    kth_smallest,
    largest_beside,
    shrink,
)
from modeledit_jax.lifelong.model import commit, dense_change
from modeledit_jax.lifelong.stream import edit_stream, start_stream

KEY = jax.random.key(0)
BASE = FineTune(steps=2, learning_rate=0.05)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 2.0**99, width=32), min_size=9, max_size=9), st.integers(1, 9))
def test_the_kth_smallest_is_that_of_a_sort(values, k):
    found = jax.jit(kth_smallest, static_argnums=1)(jnp.asarray(values, jnp.float32), k)
    assert found == np.sort(np.asarray(values, np.float32))[k - 1]


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.75])
def test_the_entries_that_stay(rng, keep):
    delta, kernel = rng.normal(size=(2, 8, 10)).astype(np.float32)
    found = np.asarray(largest_beside(jnp.asarray(delta), jnp.asarray(kernel), keep))
    rank = round((1 - keep) * 80)
    assert found.sum() == 80 - rank + 1
    ratio = np.abs(delta / (kernel + 1e-8))
    assert ratio[found].min() >= ratio[~found].max()


@pytest.mark.slow
def test_rect_changes_what_stays_and_nothing_else(model, batch):
    kernels = model.kernels()
    base, _ = BASE.edit(model, kernels, None, batch, KEY)
    found, _ = Rect(BASE, keep=0.4).edit(model, kernels, None, batch, KEY)
    for name, hook in base.items():
        dense, kept = dense_change(hook), dense_change(found[name])
        stays = largest_beside(dense, kernels[name], 0.4)
        np.testing.assert_array_equal(kept, jnp.where(stays, dense, 0))
    every, _ = Rect(BASE, keep=1.0).edit(model, kernels, None, batch, KEY)
    for name, hook in base.items():
        np.testing.assert_array_equal(dense_change(every[name]), dense_change(hook))


@pytest.mark.parametrize("shape", [(9, 5), (5, 9)])
@pytest.mark.parametrize("base", [2.0, np.e])
def test_singular_values_are_brought_down(rng, shape, base):
    delta, bound = rng.normal(size=shape), 2.0
    left, sizes, right = np.linalg.svd(delta, full_matrices=False)
    assert (sizes > bound).any() and (sizes < bound).any()
    high = bound + np.log(np.maximum(sizes, bound) / bound) / np.log(base)
    expected = (left * np.where(sizes > bound, high, sizes)) @ right
    with jax.enable_x64(True):
        found = shrink(jnp.asarray(delta), bound, base)
        np.testing.assert_allclose(found, expected, atol=1e-10)
        np.testing.assert_array_equal(shrink(jnp.asarray(delta), 100.0, base), delta)


@pytest.mark.slow
def test_prune_bounds_the_sum_and_the_method_goes_on_without_it(model, stream):
    editor = Prune(BASE, threshold=0.02)
    state = start_stream(model, editor.train(model, None, KEY), KEY)
    after, _ = edit_stream(editor, model, state, stream)
    free, _ = edit_stream(BASE, model, start_stream(model, None, KEY), stream)
    bitten = 0
    for name, kernel in model.kernels().items():
        np.testing.assert_allclose(
            after.editor.kernels[name], free.kernels[name], rtol=1e-4, atol=1e-5
        )
        bound = float(0.02 * np.linalg.norm(kernel, 2))
        total = free.kernels[name] - kernel
        bitten += np.linalg.norm(total, 2) > bound
        expected = shrink(total, bound, np.e)
        np.testing.assert_allclose(after.kernels[name] - kernel, expected, rtol=1e-3, atol=1e-5)
    assert bitten
    loose = Prune(BASE, threshold=1e6)
    after, _ = edit_stream(
        loose, model, start_stream(model, loose.train(model, None, KEY), KEY), stream
    )
    for name, kernel in free.kernels.items():
        np.testing.assert_allclose(after.kernels[name], kernel, rtol=1e-5, atol=1e-6)


def test_the_rest_is_the_methods_own(model, stream):
    editor = Rect(BASE)
    assert editor.sized_for(model, (stream,)) == editor
    assert editor.gradient_steps(5) == BASE.gradient_steps(5)
    assert editor.init(model, KEY) is None
    changes, _ = editor.edit(
        model, model.kernels(), None, jax.tree.map(lambda x: x[0], stream), KEY
    )
    assert commit(model.kernels(), changes).keys() == model.kernels().keys()


@pytest.mark.parametrize(
    "wrong", [lambda: Rect(BASE, keep=0.0), lambda: Rect(BASE, keep=1.5), lambda: Prune(BASE, 1.0)]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="give a"):
        wrong()
