"""Batch after batch: cutting a stream changes nothing, and nothing but the modules changes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.stream import (
    StreamEditor,
    edit_stream,
    start_stream,
    train_in_memory,
)


@dataclass(frozen=True)
class Noise(StreamEditor):
    """Changes one module at random, by an amount that grows with the batches done."""

    def init(self, model, key):
        return jnp.zeros((), jnp.int32)

    def edit(self, model, kernels, state, batch, key):
        name = model.modules[1]
        delta = jax.random.normal(key, model.shapes[name]) * (state + 1)
        return {name: Hook(delta=delta)}, state + 1


def part(stream, begin, end):
    return jax.tree.map(lambda leaf: leaf[begin:end], stream)


def assert_same(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_stream_in_parts_is_the_whole_stream(model, stream):
    editor = HypernetworkEditor("ultraedit", rows=8, learning_rate=1e-2)
    key = jax.random.key(3)
    own = editor.init(model, key)
    whole, trace = edit_stream(editor, model, start_stream(model, own, key), stream)
    state = start_stream(model, own, key)  # what was trained serves again
    state, first = edit_stream(editor, model, state, part(stream, 0, 1))
    state, second = edit_stream(editor, model, state, part(stream, 1, None))
    assert_same(state, whole)
    joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second)
    assert_same(joined, trace)


def test_only_what_the_editor_changes_is_changed(model, stream):
    state, trace = edit_stream(
        Noise(), model, start_stream(model, jnp.zeros((), jnp.int32), jax.random.key(0)), stream
    )
    batches = stream.subject_last.shape[0]
    assert state.step == batches == state.editor
    original = model.kernels()
    for index, name in enumerate(model.modules):
        assert (state.kernels[name] != original[name]).any() == (index == 1)
    np.testing.assert_array_equal(
        trace.masks, np.arange(len(model.modules)) == np.ones((batches, 1))
    )
    size = np.sqrt(np.prod(model.shapes[model.modules[1]]))
    np.testing.assert_allclose(
        trace.change_norms[:, 1] / size, np.arange(1, batches + 1), rtol=0.2
    )  # each batch has a key of its own, and the state of the one before


def test_edits_are_the_sum_of_the_changes(model, stream):
    editor = Noise()
    key = jax.random.key(5)
    state, _ = edit_stream(editor, model, start_stream(model, editor.init(model, key), key), stream)
    name = model.modules[1]
    expected = model.kernels()[name]
    for step in range(stream.subject_last.shape[0]):
        noise = jax.random.normal(jax.random.fold_in(key, step), model.shapes[name])
        expected = expected + noise * (step + 1)
    np.testing.assert_allclose(state.kernels[name], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_accumulator_can_be_narrow(model, stream):
    editor = FineTune(steps=2, learning_rate=1e-3)
    start = start_stream(model, None, jax.random.key(0), dtype=jnp.bfloat16)
    state, _ = edit_stream(editor, model, start, stream)
    assert {w.dtype for w in state.kernels.values()} == {jnp.dtype(jnp.bfloat16)}


def test_a_method_needs_edit_alone(model, stream):
    """What `StreamEditor` has for methods without state, sizes or training."""
    editor = FineTune(steps=2)
    assert isinstance(editor, StreamEditor)
    assert editor.sized_for(model, [stream]) is editor
    assert editor.train(model, None, jax.random.key(0)) is None
    assert editor.gradient_steps(3) == 6 and Noise().gradient_steps(3) == 0
    assert Noise().train(model, stream, jax.random.key(0)) == 0  # its `init`
    with pytest.raises(TypeError, match="abstract"):
        type("Incomplete", (StreamEditor,), {})()


def test_a_training_in_memory_reports_what_it_is_asked_for():
    seen = []

    def advance(state, done, steps):
        return state + steps, {"loss": np.full(steps, done), "other": None}

    end = train_in_memory(
        jnp.int32(0), advance, 7, metrics=("loss",), chunk=3, report=lambda *own: seen.append(own)
    )
    assert end == 7
    assert [(done, total) for done, total, _ in seen] == [(3, 7), (6, 7), (7, 7)]
    assert [set(metrics) for *_, metrics in seen] == [{"loss"}] * 3
    np.testing.assert_array_equal(seen[2][2]["loss"], [6])


def test_what_does_not_fit_is_refused_and_the_state_is_still_there(model, stream):
    key = jax.random.key(3)
    editor = HypernetworkEditor("ultraedit", rows=2)
    state = start_stream(model, editor.init(model, key), key)
    with pytest.raises(ValueError, match=r"rows=2: a batch has \d answer tokens"):
        edit_stream(editor, model, state, stream)
    unknown = stream.replace(edit=stream.edit.replace(tokens=stream.edit.tokens + 20))
    with pytest.raises(ValueError, match=r"stream\.edit holds the token \d\d, and the network"):
        edit_stream(FineTune(), model, state, unknown)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
