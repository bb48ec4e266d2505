"""The network that writes values: NumPy, its bound, and what it learns."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.contexts import bare_rows
from modeledit_jax.lifelong.edit_values import ValueProblem, ValueSearch, edit_values
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.stream import train_in_memory
from modeledit_jax.lifelong.value_writer import ValueWriter, WriterTraining, train_writer

KEY = jax.random.key(0)
LAYER = 1
SEARCH = ValueSearch(steps=1)
TRAINING = WriterTraining(updates=60, learning_rate=3e-2, hidden=8, bound=0.7)


@pytest.fixture(scope="module")
def batch(facts):
    return jax.tree.map(lambda leaf: leaf[0], facts)


@pytest.fixture(scope="module")
def problem(model, batch):
    rows = bare_rows(batch.edit, batch.subject_last)
    return jax.jit(lambda model: ValueProblem.of(model, model.kernels(), rows, LAYER, SEARCH))(
        model
    )


def some_writer(rng, width, bound):
    empty = ValueWriter.create(width, 8, bound, KEY)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), empty)


def unit(rows):
    return rows / np.sqrt(np.mean(rows**2, axis=-1, keepdims=True))


def test_it_writes_nothing_at_first(problem):
    writer = ValueWriter.create(problem.prompts.reached.shape[-1], 8, 0.5, KEY)
    written, slope = jax.jit(jax.value_and_grad(lambda writer: writer(problem).sum()))(writer)
    assert written == 0.0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_what_it_writes_is_that_of_numpy(problem, model, batch, rng):
    width = model.config.width
    writer = some_writer(rng, width, 1e6)
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), writer)
    table = np.asarray(model.params["tokens"]["embedding"], np.float64)
    labels = np.asarray(batch.edit.labels)
    answers = np.stack([table[row[row >= 0]].mean(axis=0) for row in labels])
    np.testing.assert_allclose(problem.answers, answers, rtol=1e-5, atol=1e-6)
    reached = np.asarray(problem.prompts.reached, np.float64)
    a, u = unit(answers), unit(reached)
    z = np.concatenate([u, a], axis=1) @ p.inside + p.bias
    hidden = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    size = np.linalg.norm(reached, axis=1, keepdims=True)
    expected = (hidden @ p.outside + a @ p.direct + p.offset) * size / np.sqrt(width)
    np.testing.assert_allclose(writer(problem), expected, rtol=1e-3, atol=1e-3)
    short = np.asarray(replace(writer, bound=0.3)(problem))
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 0.3 * size[:, 0], rtol=1e-4)
    np.testing.assert_allclose(unit(short), unit(expected), rtol=1e-2, atol=1e-3)


def test_a_search_of_one_step_is_what_was_written(problem, model, batch, rng):
    writer = some_writer(rng, model.config.width, 0.5)
    rows, real = bare_rows(batch.edit, batch.subject_last), jnp.array([True, True, False])
    find = jax.jit(edit_values, static_argnames=("layer", "search"))
    found = find(
        model, model.kernels(), rows, real, LAYER, SEARCH, start=jax.tree_util.Partial(writer)
    )
    np.testing.assert_allclose(found.delta[:2], writer(problem)[:2], rtol=1e-5, atol=1e-6)
    assert not np.asarray(found.delta)[2].any()
    losses = jax.jit(ValueProblem.losses)(problem, found.delta)[0]
    np.testing.assert_allclose(found.loss[:2], losses[:2], rtol=1e-4)


@pytest.mark.slow
def test_it_learns_what_the_search_wants_and_can_be_cut(model, facts, problem):
    given = (model, facts, LAYER, SEARCH, (None, None), TRAINING, KEY)
    losses = []

    def noted(start, advance, steps, *, metrics, chunk):
        return train_in_memory(
            start, advance, steps, metrics=metrics, chunk=chunk,
            report=lambda done, total, found: losses.extend(np.asarray(found["loss"]).tolist()),
        )  # fmt: skip

    writer = train_writer(*given, noted)
    zero = problem.losses(jnp.zeros_like(problem.prompts.reached))[0]
    learned = problem.losses(writer(problem))[0]
    assert len(losses) == 60 and learned.mean() < zero.mean() - 0.3, (learned, zero)

    def in_other_parts(start, advance, steps, *, metrics, chunk):
        return train_in_memory(start, advance, steps, metrics=metrics, chunk=3)

    for leaf, other in zip(
        jax.tree.leaves(writer), jax.tree.leaves(train_writer(*given, in_other_parts)), strict=True
    ):
        np.testing.assert_allclose(leaf, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_closed_form_edits_with_it(model, facts):
    editor = ClosedForm(
        "nothing", contexts=0, layers=(1,), values=SEARCH, writer=TRAINING, anchor=4
    ).sized_for(model, (facts,))
    editor = replace(editor, layers=(1,))
    state = editor.train(model, facts, KEY)
    assert state.length > 0
    batch = jax.tree.map(lambda leaf: leaf[0], facts)
    changes, after = jax.jit(partial(ClosedForm.edit, editor))(
        model, model.kernels(), state, batch, KEY
    )
    assert np.asarray(changes["layers/1/mlp/down"].values).any()
    assert after.writer is not None


def test_facts_are_needed_and_settings_checked(model):
    editor = ClosedForm("nothing", contexts=0, layers=(1,), writer=TRAINING)
    with pytest.raises(ValueError, match="writer needs facts to learn from: give facts about"):
        editor.train(model, None, KEY)
    for name, value in vars(TRAINING).items():
        with pytest.raises(ValueError, match=f"{name}=-1(.0)?: give a"):
            replace(TRAINING, **{name: type(value)(-1)})
