"""Edited kernels beside an unedited network."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import apply, tiny_llama
from modeledit_jax.lifelong.model import (
    EditableModel,
    check_facts,
    check_kernels,
    commit,
    dense_change,
    squared_norms,
)


def random_changes(model, scale=0.1, mask=None):
    rng = np.random.default_rng(1)
    return {
        name: Hook(
            keys=jnp.asarray(rng.normal(size=(3, d_in)), jnp.float32),
            values=scale * jnp.asarray(rng.normal(size=(3, d_out)), jnp.float32),
            mask=mask,
        )
        for name, (d_in, d_out) in model.shapes.items()
    }


def test_unedited_kernels_are_those_of_the_network(model, batch):
    logits = model.logits(model.kernels(), batch.edit)
    tokens, attention = batch.edit.tokens, batch.edit.attention
    np.testing.assert_array_equal(logits, apply(model.config, model.params, tokens, attention)[0])


def test_a_change_beside_the_kernel_is_a_change_committed_to_it(model, batch):
    kernels, changes = model.kernels(), random_changes(model, mask=jnp.float32(0.5))
    beside = model.logits(kernels, batch.edit, changes)
    written = model.logits(commit(kernels, changes), batch.edit)
    np.testing.assert_allclose(beside, written, rtol=2e-4, atol=2e-4)
    assert np.abs(beside - model.logits(kernels, batch.edit)).max() > 0.1


def test_commit_leaves_other_modules_and_leaves_alone(model):
    kernels = model.kernels()
    first, *others = model.modules
    changed = commit(kernels, {first: Hook(delta=jnp.ones(model.shapes[first]))})
    np.testing.assert_allclose(changed[first], kernels[first] + 1)
    assert all(changed[name] is kernels[name] for name in others)
    params = model.with_kernels(changed)
    same = jax.tree.map(lambda a, b: a is b, params, model.params)
    assert sum(not flag for flag in jax.tree.leaves(same)) == len(model.modules)


def test_kernels_keep_their_dtype(model):
    kernels = {name: w.astype(jnp.bfloat16) for name, w in model.kernels().items()}
    done = commit(kernels, random_changes(model, scale=1e-6))
    assert {w.dtype for w in done.values()} == {jnp.dtype(jnp.bfloat16)}
    # What bfloat16 loses: a change this small does not arrive in most weights.
    name = model.modules[0]
    assert (done[name] == kernels[name]).mean() > 0.9
    assert (
        commit(model.kernels(), random_changes(model, 1e-6))[name] != model.kernels()[name]
    ).any()


@pytest.mark.parametrize("mask", [None, 0.0, 0.7])
def test_squared_norms(model, mask):
    changes = random_changes(model, mask=None if mask is None else jnp.float32(mask))
    name = model.modules[0]
    changes[name] = changes[name].replace(delta=jnp.ones(model.shapes[name]))
    for module, value in squared_norms(changes).items():
        np.testing.assert_allclose(value, np.square(dense_change(changes[module])).sum(), rtol=1e-4)


def test_stacked_layers_are_refused():
    config = replace(tiny_llama(5, width=8, num_layers=2, num_heads=2), scan_layers=True)
    with pytest.raises(ValueError, match="unstack_layers"):
        EditableModel.create(config, {}, "layers/*")


def test_facts_of_another_vocabulary_are_refused(model, stream):
    check_facts(model, stream, "facts")
    small = model.replace(config=replace(model.config, vocab_size=10))
    with pytest.raises(
        ValueError, match=r"facts\.edit holds the token \d\d, and the network embeds"
    ):
        check_facts(small, stream, "facts")


def test_kernels_of_another_network_or_with_a_broken_value_are_refused(model):
    kernels = model.kernels()
    check_kernels(model, kernels)
    name = model.modules[1]
    with pytest.raises(ValueError, match="the model edits no layers/7/mlp/up: give kernels of lay"):
        check_kernels(model, {"layers/7/mlp/up": kernels[name]})
    with pytest.raises(ValueError, match=rf"kernel of {name} has the shape \(2, 3\), that of the"):
        check_kernels(model, {name: jnp.zeros((2, 3))})
    for value in (np.nan, np.inf, -np.inf):
        broken = kernels | {name: jnp.full_like(kernels[name], value)}
        with pytest.raises(ValueError, match=f"kernels of {name} hold values that are not finite"):
            check_kernels(model, broken)
