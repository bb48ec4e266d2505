"""Closed-form editors against joint solves, d × d systems and hand-made cases."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.contexts import ContextBatch, bare_rows
from modeledit_jax.data.facts.tokens import IGNORED
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values
from modeledit_jax.lifelong.low_rank import preconditioned_shift, remember, ridge_shift
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.model import commit, dense_change
from modeledit_jax.lifelong.stream import edit_stream, start_stream

edit = jax.jit(ClosedForm.edit, static_argnums=0)
find = jax.jit(edit_values, static_argnames=("layer", "search", "answer"))
VALUES = ValueSearch(steps=4, learning_rate=0.1)
KEY = jax.random.key(0)
ALONE = partial(ClosedForm, contexts=0)


@partial(jax.jit, static_argnames="name")
def at_subjects(model, batch, changes, name):
    """The whole network's inputs of a module, or stream after a layer, at the subjects."""
    edit = batch.edit
    seen = apply(model.config, model.params, edit.tokens, edit.attention, changes, (name,))[1]
    return seen[name][jnp.arange(len(edit.tokens)), batch.subject_last]


def moments(rng, size):
    rows = rng.normal(size=(4 * size, size)) * np.logspace(0, -1.5, size)
    return rows.T @ rows / len(rows)


def problem(rng, facts=5, d_in=12, d_out=7):
    return rng.normal(size=(facts, d_in)), rng.normal(size=(facts, d_out))


def test_the_small_system_is_the_large_one(rng):
    """MEMIT's published solve, ``(λC + KᵀK)⁻¹ Kᵀ D``, in float64."""
    keys, targets = problem(rng)
    covariance = moments(rng, 12)
    expected = np.linalg.solve(3.0 * covariance + keys.T @ keys, keys.T @ targets)
    with jax.enable_x64(True):
        update = preconditioned_shift(
            jnp.asarray(keys), jnp.asarray(targets), jnp.asarray(np.linalg.inv(3 * covariance)), 1.0
        )
        found = np.asarray(update.dense())
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_alphaedit_is_its_published_solve_batch_after_batch(rng):
    """``solve(P (KᵀK + K_pᵀK_p) + L2 I, P Kᵀ D)``, nonsymmetric, with the keys of all batches."""
    basis = np.linalg.qr(rng.normal(size=(12, 8)))[0]
    projector, past, penalty = basis @ basis.T, np.zeros((12, 12)), 2.0
    with jax.enable_x64(True):
        state = jnp.asarray(projector / penalty)
        for _ in range(4):
            keys, targets = problem(rng, 3)
            left = projector @ (keys.T @ keys + past) + penalty * np.eye(12)
            expected = np.linalg.solve(left, projector @ keys.T @ targets)
            found = preconditioned_shift(jnp.asarray(keys), jnp.asarray(targets), state, 1.0)
            np.testing.assert_allclose(found.dense(), expected, rtol=1e-8, atol=1e-12)
            # Nothing moves in the directions that are protected.
            outside = (np.eye(12) - projector) @ np.asarray(found.dense())
            assert np.abs(outside).max() < 1e-12
            state = remember(state, jnp.asarray(keys), 1.0)
            past += keys.T @ keys


def test_remembered_batches_are_one_joint_solve(rng):
    """Targets are what is left of the values with the kernel as edited so far."""
    kernel, covariance = rng.normal(size=(12, 7)), moments(rng, 12)
    first = np.linalg.inv(covariance)
    batches = [problem(rng, 3) for _ in range(3)]
    with jax.enable_x64(True):
        state, now = jnp.asarray(first), jnp.asarray(kernel)
        for keys, values in batches:
            keys, values = jnp.asarray(keys), jnp.asarray(values)
            now = now + preconditioned_shift(keys, values - keys @ now, state, 1.0).dense()
            state = remember(state, keys, 1.0)
        found, state = np.asarray(now), np.asarray(state)
    keys, values = (np.concatenate(part) for part in zip(*batches, strict=True))
    joint = np.linalg.solve(covariance + keys.T @ keys, keys.T @ (values - keys @ kernel))
    np.testing.assert_allclose(found, kernel + joint, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(state, np.linalg.inv(covariance + keys.T @ keys), rtol=1e-8)


def test_without_ridge_the_values_are_stored_exactly(rng):
    keys, targets = problem(rng, 5)
    covariance = np.linalg.inv(moments(rng, 12))
    with jax.enable_x64(True):
        update = preconditioned_shift(
            jnp.asarray(keys), jnp.asarray(targets), jnp.asarray(covariance), 0.0
        )
        np.testing.assert_allclose(keys @ np.asarray(update.dense()), targets, atol=1e-8)
        one = preconditioned_shift(
            jnp.asarray(keys[:1]), jnp.asarray(targets[:1]), jnp.asarray(covariance), 0.0
        )
        rank_one = np.asarray(one.dense())
    # ROME's rank-one update: Λ (C⁻¹k)ᵀ with Λ = (v − k W) / ((C⁻¹k)ᵀ k).
    direction = covariance @ keys[0]
    expected = np.outer(direction, targets[0]) / (direction @ keys[0])
    np.testing.assert_allclose(rank_one, expected, rtol=1e-9)


def test_masked_rows_are_left_out_and_the_identity_is_ridge_shift(rng):
    keys, targets = (jnp.asarray(x, jnp.float32) for x in problem(rng))
    mask = jnp.array([True, False, True, True, False])
    matrix = jnp.asarray(np.linalg.inv(moments(rng, 12)), jnp.float32)
    for ridge in (0.0, 2.0):
        found = preconditioned_shift(keys, targets, matrix, ridge, mask)
        kept = preconditioned_shift(keys[mask], targets[mask], matrix, ridge)
        np.testing.assert_allclose(found.dense(), kept.dense(), rtol=2e-3, atol=1e-4)
        assert not np.asarray(found.keys)[~mask].any()
    np.testing.assert_allclose(
        remember(matrix, keys, 1.0, mask), remember(matrix, keys[mask], 1.0), rtol=1e-3, atol=1e-3
    )
    same = preconditioned_shift(keys, targets, jnp.eye(12), 2.0, mask)
    np.testing.assert_allclose(
        same.dense(), ridge_shift(keys, targets, 2.0, mask).dense(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_one_layer_delivers_what_it_was_asked_for(deep, facts):
    """Without a ridge, the stream after the layer is what it was, plus δ."""
    editor = ALONE("nothing", ridge=0.0, layers=(2,), values=VALUES)
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    kernels = deep.kernels()
    value = find(deep, kernels, bare_rows(batch.edit, batch.subject_last), batch.real, 2, VALUES, 2)
    changes, _ = edit(editor, deep, kernels, editor.init(deep, KEY), batch, KEY)
    name = "layers/2/mlp/down"
    before, after = (at_subjects(deep, batch, made, "layers/2") for made in ({}, changes))
    np.testing.assert_allclose(after - before, value.delta, rtol=1e-3, atol=1e-3)
    assert set(changes) == {name}


@pytest.mark.slow
def test_layers_share_the_change(deep, facts):
    """Each does its share of what is left: without a ridge the last one leaves nothing."""
    editor = ALONE("nothing", ridge=0.0, layers=(1, 2), values=VALUES)
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    kernels = deep.kernels()
    state = editor.init(deep, KEY)
    changes, _ = edit(editor, deep, kernels, state, batch, KEY)
    value = find(deep, kernels, bare_rows(batch.edit, batch.subject_last), batch.real, 2, VALUES, 2)
    keys = at_subjects(deep, batch, {}, "layers/1/mlp/down")
    stream = at_subjects(deep, batch, {}, "layers/2")
    half = keys @ dense_change(changes["layers/1/mlp/down"])
    np.testing.assert_allclose(half, value.delta / 2, rtol=1e-3, atol=1e-3)
    after = at_subjects(deep, batch, changes, "layers/2")
    np.testing.assert_allclose(after, stream + value.delta, rtol=1e-3, atol=2e-3)


@pytest.mark.slow
def test_layers_at_least_cost_deliver_what_is_asked_for(deep, facts):
    """With next to no ridge all three layers together move the stream where it was wanted, and not
    as they do evenly."""
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    kernels, found = deep.kernels(), {}
    for sharing in ("even", "least"):
        editor = ALONE("nothing", size_penalty=1e-4, sharing=sharing, values=VALUES)
        changes, _ = edit(editor, deep, kernels, editor.init(deep, KEY), batch, KEY)
        found[sharing] = {name: dense_change(hook) for name, hook in changes.items()}
        editor = editor.sized_for(deep, (facts,))
        rows = bare_rows(batch.edit, batch.subject_last)
        top = max(editor.edited(deep))
        value = find(deep, kernels, rows, batch.real, top, VALUES, None)
        before, after = (at_subjects(deep, batch, made, f"layers/{top}") for made in ({}, changes))
        np.testing.assert_allclose(after - before, value.delta, rtol=2e-2, atol=2e-3)
    assert any(
        not np.allclose(found["even"][name], found["least"][name], rtol=1e-2)
        for name in found["even"]
    )


@pytest.mark.parametrize("protect", ["text", "null-space"])
def test_a_stream_is_the_same_in_parts_and_filling_changes_nothing(deep, facts, protect):
    editor = ALONE(protect, energy=0.8, history=True, layers=(1,), values=VALUES)
    editor = editor.sized_for(deep, (facts,))
    assert editor.answer == 2 and editor.window == 6
    state = editor.train(deep, facts, KEY)
    matrix = np.asarray(state.preconditioners["layers/1/mlp/down"])
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-4, atol=1e-5)
    whole, _ = edit_stream(editor, deep, start_stream(deep, state, KEY), facts)
    part = start_stream(deep, state, KEY)
    for cut in (slice(0, 1), slice(1, 4)):
        part, _ = edit_stream(editor, deep, part, jax.tree.map(lambda x, c=cut: x[c], facts))
    name = "layers/1/mlp/down"
    np.testing.assert_array_equal(whole.kernels[name], part.kernels[name])
    assert np.isfinite(whole.kernels[name]).all()
    assert np.any(whole.kernels[name] != deep.kernels()[name])
    np.testing.assert_array_equal(
        whole.kernels["layers/2/mlp/down"], deep.kernels()["layers/2/mlp/down"]
    )


@pytest.mark.slow
def test_facts_one_by_one_are_batches_of_one(deep, facts):
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    rome = ALONE("nothing", ridge=0.0, one_by_one=True, layers=(1,), values=VALUES)
    kernels = deep.kernels()
    found, _ = edit(rome, deep, kernels, rome.init(deep, KEY), batch, KEY)
    single, state = replace(rome, one_by_one=False), rome.init(deep, KEY)
    for row in range(3):
        fact = jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch)
        changes, state = edit(single, deep, kernels, state, fact, KEY)
        kernels = commit(kernels, changes)
    name = "layers/1/mlp/down"
    np.testing.assert_allclose(
        commit(deep.kernels(), found)[name], kernels[name], rtol=1e-4, atol=1e-4
    )


def framed(facts, size):
    """A batch whose contexts are those of other batches, with the first prompts at last."""
    first, *others = (jax.tree.map(lambda x, t=t: x[t, :size], facts) for t in range(3))
    unlabeled = first.edit.replace(labels=jnp.full_like(first.edit.labels, IGNORED))
    rows = [first.edit, *(other.edit for other in others), unlabeled]
    places = [first.subject_last, *(other.subject_last for other in others), first.subject_last]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *rows)
    return first.replace(contexts=ContextBatch(stacked, jnp.stack(places, 1)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "weights"),
    [
        ("released", [1 / 3, 1 / 3, 1 / 3]),
        ("halves", [1 / 2, 1 / 4, 1 / 4]),
        ("mean", [1 / 3, 1 / 3, 1 / 3]),
        ("bare", [1, 0, 0]),
    ],
)
def test_keys_are_means_over_the_rows_of_a_fact(deep, facts, key, weights):
    """ROME and MEMIT in NumPy from keys of the whole network."""
    batch = framed(facts, 1 if key == "released" else 3)
    editor = ClosedForm(
        "nothing", size_penalty=1.0, ridge=2.0, contexts=2, key=key, layers=(1,), values=VALUES,
        one_by_one=key == "released",
    )  # fmt: skip
    kernels, name = deep.kernels(), "layers/1/mlp/down"
    found, _ = edit(editor, deep, kernels, editor.init(deep, KEY), batch, KEY)
    value = find(deep, kernels, batch.contexts, batch.real, 1, VALUES, None)
    rows = [
        at_subjects(
            deep,
            batch.replace(
                edit=jax.tree.map(lambda x, r=r: x[:, r], batch.contexts.rows),
                subject_last=batch.contexts.subject[:, r],
            ),
            {},
            name,
        )
        for r in range(3)
    ]
    mean = sum(weight * np.asarray(row) for weight, row in zip(weights, rows, strict=True))
    asked = np.asarray(rows[0]) if key == "released" else mean
    system = 2 * np.eye(len(mean)) + asked @ mean.T
    expected = mean.T @ np.linalg.solve(system, np.asarray(value.delta))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(dense_change(found[name]), expected, rtol=1e-3, atol=1e-5)


def test_what_cannot_be_edited_is_refused(deep, model, facts, stream):
    with pytest.raises(ValueError, match=r"layers \[3\] are not among"):
        ClosedForm(layers=(3,)).edited(deep)
    with pytest.raises(ValueError, match="no layer to edit"):
        ClosedForm().edited(model)  # whose mlp/down is that of the last layer
    gemma = replace(deep, config=replace(deep.config, post_norms=True))
    with pytest.raises(ValueError, match="name one layer"):
        ClosedForm().edited(gemma)
    with pytest.raises(ValueError, match="12 facts do not say what they are about"):
        ALONE().sized_for(deep, (stream,))
    with pytest.raises(ValueError, match="answer=1: the longest answer has 2 tokens"):
        ALONE(answer=1).sized_for(deep, (facts,))
    with pytest.raises(ValueError, match="window=2: the longest window has 5 tokens"):
        ALONE(window=2).sized_for(deep, (facts,))
    with pytest.raises(ValueError, match="contexts=5: the facts were encoded with 0; give as many"):
        ClosedForm().sized_for(deep, (facts,))
    with pytest.raises(ValueError, match="contexts=-1: give a number"):
        ClosedForm(contexts=-1)
    with pytest.raises(ValueError, match="give one_by_one=True"):
        ClosedForm(key="released")
    with pytest.raises(ValueError, match="give facts about other subjects"):
        ClosedForm().train(deep, None, KEY)
    with pytest.raises(ValueError, match="train the method first"):
        ClosedForm().init(deep, KEY)
    for wrong in (
        {"weight": 0.0},
        {"ridge": -1.0},
        {"ridge": 0.0, "history": True},
        {"energy": 1.0},
    ):
        with pytest.raises(ValueError, match="give a"):
            ClosedForm(**wrong)
