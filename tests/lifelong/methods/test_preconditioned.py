"""Changes that spare text and earlier edits, against dense solves in NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.key_statistics import KeyStatistics, add_keys
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.preconditioned import Preconditioned
from modeledit_jax.lifelong.model import dense_change
from modeledit_jax.lifelong.stream import edit_stream, start_stream

KEY = jax.random.key(0)
INNER = HypernetworkEditor("ultraedit", rows=8, learning_rate=0.1)


edit = jax.jit(lambda method, *args: method.edit(*args), static_argnums=0)


@jax.jit
def dense(changes):
    return {name: dense_change(change) for name, change in changes.items()}


@jax.jit
def statistics_of(model, stream):
    """Of the keys of all batches, one after another."""

    def added(statistics, batch):
        return add_keys(model, model.kernels(), statistics, batch), None

    return jax.lax.scan(added, KeyStatistics.empty(model), stream)[0]


def first(stream, place=0):
    return jax.tree.map(lambda leaf: leaf[place], stream)


@pytest.fixture(scope="module")
def ours():
    return Preconditioned(INNER, weight=3.0, ridge=0.5)


@pytest.fixture(scope="module")
def trained(ours, model, stream):
    return ours.train(model, stream, KEY)


def test_a_change_minimizes_what_it_says(ours, trained, model, stream):
    """The normal equation of the objective, d × d, in float64."""
    kernels = model.kernels()
    inner, _ = edit(INNER, model, kernels, trained.editor, first(stream), KEY)
    found, after = edit(ours, model, kernels, trained, first(stream), KEY)
    statistics = statistics_of(model, stream)
    plain, spared_by_ours = dense(inner), dense(found)
    for name, change in inner.items():
        keys = np.asarray(change.keys, np.float64)
        wanted = keys @ np.asarray(plain[name], np.float64)
        spared = 3.0 * statistics.covariance(name) + np.eye(keys.shape[1])
        expected = np.linalg.solve(keys.T @ keys + 0.5 * spared, keys.T @ wanted)
        scale = abs(expected).max()
        np.testing.assert_allclose(spared_by_ours[name], expected, atol=2e-4 * scale)
        remembered = np.linalg.inv(spared + keys.T @ keys / 0.5)
        np.testing.assert_allclose(after.preconditioners[name], remembered, atol=2e-4)


def test_nothing_spared_and_a_small_ridge_is_the_method_itself(model, stream):
    plain = Preconditioned(INNER, weight=0.0, ridge=1e-6, history=False)
    state = plain.init(model, KEY)
    found, after = edit(plain, model, model.kernels(), state, first(stream), KEY)
    inner, _ = edit(INNER, model, model.kernels(), state.editor, first(stream), KEY)
    changes = dense(found)
    for name, expected in dense(inner).items():
        np.testing.assert_allclose(changes[name], expected, atol=2e-3 * abs(expected).max())
        np.testing.assert_array_equal(after.preconditioners[name], state.preconditioners[name])


@pytest.mark.slow
def test_a_stream_that_is_cut_goes_on(ours, trained, model, stream):
    whole, _ = edit_stream(ours, model, start_stream(model, trained, KEY), stream)
    state = start_stream(model, trained, KEY)
    for part in (slice(0, 1), slice(1, None)):
        state, _ = edit_stream(ours, model, state, jax.tree.map(lambda x, p=part: x[p], stream))
    for name, kernel in whole.kernels.items():
        np.testing.assert_array_equal(state.kernels[name], kernel)
        assert not np.array_equal(kernel, model.kernels()[name])


def test_masks_of_routed_methods_stay(ours, trained, model, stream):
    class Halved(HypernetworkEditor):
        def edit(self, model, kernels, state, batch, key):
            changes, state = super().edit(model, kernels, state, batch, key)
            return {
                name: replace(hook, mask=jnp.float32(0.0)) for name, hook in changes.items()
            }, state

    halved = replace(ours, editor=Halved("ultraedit", rows=8, learning_rate=0.1))
    found, _ = edit(halved, model, model.kernels(), trained, first(stream), KEY)
    assert all(not np.asarray(change).any() for change in dense(found).values())


def test_what_cannot_be_done_is_refused(ours, model, stream):
    with pytest.raises(ValueError, match=r"weight=3.0 needs the statistics of text"):
        ours.init(model, KEY)
    with pytest.raises(ValueError, match=r"weight=3.0 needs .* give facts about other subjects"):
        ours.train(model, None, KEY)
    for bad in ({"weight": -1.0}, {"ridge": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))}="):
            replace(ours, **bad)
    whole = Preconditioned(FineTune(steps=1), weight=0.0)
    with pytest.raises(ValueError, match="is not low-rank: FineTune cannot be preconditioned"):
        whole.edit(model, model.kernels(), whole.init(model, KEY), first(stream), KEY)
    assert ours.gradient_steps(3) == 0
    assert ours.sized_for(model, (stream,)).editor.rows == 8
