"""Norm-anchor scaling against NumPy, and through the closed-form editor that it belongs to."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.contexts import bare_rows
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.norm_anchor import (
    anchored,
    measured_length,
    typical_length,
)
from modeledit_jax.lifelong.stream import train_in_memory

KEY = jax.random.key(0)
VALUES = ValueSearch(steps=3, learning_rate=0.1)
TOP = "layers/2/mlp/down"


def keys_of(model, batch, changes, name=TOP):
    """Inputs of a module at the subjects, by the whole network."""
    edit = batch.edit
    seen = apply(model.config, model.params, edit.tokens, edit.attention, changes, (name,))[1]
    return seen[name][jnp.arange(len(edit.tokens)), batch.subject_last]


def test_values_get_the_length_and_those_that_are_too_long_nothing(rng):
    output, delta = rng.normal(size=(2, 4, 6))
    delta[1] *= 100
    length = float(np.linalg.norm(output[0] + delta[0])) / 1.5
    found = np.asarray(anchored(*map(jnp.asarray, (delta, output, np.float32(length)))))
    lengths = np.linalg.norm(output + found, axis=1)
    kept = np.linalg.norm(output + delta, axis=1) <= 2 * length
    assert kept[0] and not kept[1] and not found[1].any()
    np.testing.assert_allclose(lengths[kept], length, rtol=1e-5)
    direction = (output + delta)[0] / np.linalg.norm((output + delta)[0])
    np.testing.assert_allclose(output[0] + found[0], length * direction, rtol=1e-5)


def test_the_longest_do_not_count(rng):
    lengths = rng.uniform(1, 2, (5, 8)).astype(np.float32)
    real = np.ones((5, 8), bool)
    real[-1, 4:] = False
    lengths[0, 0], lengths[-1, -1] = 1e4, 1e9
    known = lengths[real]
    expected = known[known <= np.quantile(known, 0.95)].mean()
    np.testing.assert_allclose(typical_length(*map(jnp.asarray, (lengths, real))), expected, 1e-6)


@pytest.mark.slow
def test_the_length_is_that_of_values_of_the_unedited_network(deep, facts):
    found = measured_length(deep, facts, 2, VALUES, (2, 6), train_in_memory)
    lengths = []
    for index in range(facts.batches):
        batch = jax.tree.map(lambda leaf, index=index: leaf[index], facts)
        rows = bare_rows(batch.edit, batch.subject_last)
        real = batch.real & (batch.subject_last >= 0)
        delta = edit_values(deep, deep.kernels(), rows, real, 2, VALUES).delta
        values = keys_of(deep, batch, {}) @ deep.kernels()[TOP] + delta
        lengths += np.linalg.norm(values, axis=1)[np.asarray(real)].tolist()
    lengths = np.array(lengths)
    expected = lengths[lengths <= np.quantile(lengths, 0.95)].mean()
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.slow
def test_what_the_mlp_says_after_an_edit_has_the_length(deep, facts):
    editor = ClosedForm(
        "nothing", ridge=0.0, contexts=0, layers=(2,), values=VALUES, anchor=7
    ).sized_for(deep, (facts,))
    state = editor.train(deep, facts, KEY)
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    changes, after = jax.jit(ClosedForm.edit, static_argnums=0)(
        editor, deep, deep.kernels(), state, batch, KEY
    )
    kernel = deep.kernels()[TOP] + changes[TOP].keys.T @ changes[TOP].values
    values = keys_of(deep, batch, {}) @ kernel
    np.testing.assert_allclose(np.linalg.norm(values, axis=1), state.length, rtol=1e-2)
    np.testing.assert_array_equal(after.length, state.length)


def test_facts_are_needed(model):
    editor = ClosedForm("nothing", contexts=0, layers=(1,), anchor=4)
    for start in (editor.init, lambda given, key: editor.train(given, None, key)):
        with pytest.raises(ValueError, match=r"anchor=4 needs the values of facts: "):
            start(model, KEY)
    with pytest.raises(ValueError, match="anchor=-1: give a number of facts, 0 for none"):
        replace(editor, anchor=-1)
    assert ClosedForm("nothing", contexts=0, layers=(1,)).init(model, KEY).length is None
