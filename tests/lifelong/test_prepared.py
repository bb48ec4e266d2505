"""What is computed once for a stream: the same results as when it is computed every time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.contexts import ContextBatch
from modeledit_jax.data.facts.questions import group_questions
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import init_params, tiny_llama
from modeledit_jax.lifelong import prepared as module
from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.key_statistics import KeyStatistics, add_keys
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.model import EditableModel, dense_change
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.prepared import bytes_of_hidden, prepared
from modeledit_jax.lifelong.scoring import predict_with, score_besides, score_stream
from modeledit_jax.lifelong.token_gradients import capture
from tests.lifelong.conftest import VOCABULARY


@pytest.fixture(scope="module")
def deep():
    """The last layer is not edited: what reads the subject there is nothing but noise."""
    config = tiny_llama(VOCABULARY, width=16, num_layers=5, num_heads=2, mlp_width=24, context=16)
    params = jax.tree.map(lambda w: 4.0 * w, init_params(config, jax.random.key(0)))
    return EditableModel.create(config, params, "layers/[23]/mlp/down")


@pytest.fixture(scope="module")
def task(deep, stream):
    choices = jax.tree.map(lambda *x: jnp.stack(x), stream.edit, stream.locality)
    return FactTask(
        deep, stream, stream, stream.locality, stream.rephrase, 3, known=stream.edit,
        choices=choices,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ready(task):
    return prepared(task)


@pytest.fixture(scope="module")
def kernels(deep):
    return {name: kernel * 1.1 for name, kernel in deep.kernels().items()}


def close(one, other):
    for own, its in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(own, its, rtol=5e-4, atol=5e-5)


def first(facts):
    return jax.tree.map(lambda leaf: leaf[0], facts)


def test_everything_that_is_read_again_is_prepared(task, ready):
    batches = [*module._batches(ready)]
    assert ready.choices.hidden.shape == (*ready.choices.tokens.shape, 16)
    assert len(batches) > 8 and all(batch.hidden is not None for batch in batches)
    assert ready.edits.edit.places.shape[-1] == 2
    assert sum(batch.hidden.nbytes for batch in batches) == bytes_of_hidden(ready)
    assert prepared(ready) is ready
    assert task.edits.edit.hidden is None and not task.questions


def test_rows_are_those_of_the_whole_pass(deep, task, ready, kernels):
    plain = capture(deep, kernels, first(task.edits).edit, 8)
    close(capture(deep, kernels, first(ready.edits).edit, 8), plain)


@pytest.mark.slow
def test_a_trajectory_has_the_same_loss_and_gradient(deep, task, ready, kernels):
    def loss(facts, value):
        changes = {
            name: Hook(delta=jnp.full(kernel.shape, value)) for name, kernel in kernels.items()
        }
        objective = Objective(memory=2, reference="original")
        return trajectory_loss(deep, kernels, changes, facts, jnp.int32(1), objective)

    found = [jax.value_and_grad(lambda v, f=facts: loss(f, v))(1e-2)
             for facts in (task.train, ready.train)]  # fmt: skip
    close(*found)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [(2,), (2, 3), (3,)])
def test_closed_form_changes_and_key_statistics_are_the_same(deep, task, ready, kernels, layers):
    editor = ClosedForm("nothing", layers=layers, contexts=0, values=ValueSearch(steps=3))
    state = editor.init(deep, jax.random.key(0))

    def changes(facts):
        batch = replace(first(facts), subject_last=jnp.ones(3, jnp.int32))
        found, _ = editor.edit(deep, kernels, state, batch, jax.random.key(0))
        return {name: dense_change(change) for name, change in found.items()}

    close(changes(task.edits), changes(ready.edits))
    empty = KeyStatistics.empty(deep)
    close(*(add_keys(deep, kernels, empty, first(t.train)) for t in (task, ready)))


@pytest.mark.slow
def test_rows_of_contexts_are_read_once_too(deep, task):
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3, 2), task.edits.edit)
    contexts = ContextBatch(rows, jnp.ones(rows.tokens.shape[:3], jnp.int32))
    own = prepared(replace(task, edits=replace(task.edits, contexts=contexts)))
    hidden = own.edits.contexts.rows.hidden
    for row in range(3):
        close(hidden[:, :, row], own.edits.edit.hidden)
    batches = [*module._batches(own)]
    assert sum(batch.hidden.nbytes for batch in batches) == bytes_of_hidden(own)


@pytest.mark.slow
def test_scores_are_those_of_whole_passes(deep, task, ready, kernels):
    plain = group_questions(task.edits, lambda places: 4)
    assert all(group.wanted.hidden is None for group in plain)
    ask = {"batches": jnp.int32(3), "first": 2, "real": task.edits.real}
    unedited = tuple(jnp.zeros(group.wanted.answers.shape, jnp.int32) for group in plain)
    mine = tuple(jnp.zeros(group.wanted.answers.shape, jnp.int32) for group in ready.questions)
    close(
        score_stream(deep, kernels, plain, unedited=unedited, **ask),
        score_stream(deep, kernels, ready.questions, unedited=mine, **ask),
    )
    close(
        *(
            score_besides(deep, kernels, t.sentences, t.untouched, t.known, t.choices)
            for t in (task, ready)
        )
    )
    batch = first(ready.edits).edit
    whole = predict_with(deep, kernels)(replace(batch, hidden=None))
    close(predict_with(deep, kernels)(batch), whole)


def test_without_memory_for_it_lower_layers_are_run_every_time(task, ready):
    plan = ready.scoring
    assert plan.hidden == bytes_of_hidden(ready) and plan.budget.stored > plan.hidden
    free = 4 * plan.hidden - 1  # a quarter of it may be kept
    poor = prepared(task, plan.budget.stored - plan.hidden + free)
    assert poor.questions and all(batch.hidden is None for batch in module._batches(poor))
    assert poor.scoring.budget.free == free and poor.scoring.hidden == plan.hidden
    rich = prepared(task, plan.budget.stored - plan.hidden + free + 1)
    assert all(batch.hidden is not None for batch in module._batches(rich))


def test_a_network_that_is_edited_from_its_first_layer_has_none_below(task, model):
    own = prepared(replace(task, model=model))
    assert own.questions and own.edits.edit.hidden is None and own.edits.edit.places is not None


def test_the_head_is_above_all_layers(deep, stream):
    head = EditableModel.create(
        replace(deep.config, tied_head=False),
        deep.params | {"head": {"kernel": jnp.ones((16, VOCABULARY))}},
        "head",
    )
    assert head.first_layer == 5
    batch = first(prepared(FactTask(head, stream, None, stream.edit, stream.edit, 1)).edits).edit
    close(
        head.answer_logits(head.kernels(), batch),
        head.answer_logits(head.kernels(), replace(batch, hidden=None)),
    )
