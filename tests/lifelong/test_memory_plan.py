"""A small budget reads fewer questions and facts at a time, and gives the same numbers."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.model import init_params, tiny_llama
from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.memory_plan import facts_ahead, plan_editing, plan_facts
from modeledit_jax.lifelong.methods import meta_training
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.dafnet import DAFNet
from modeledit_jax.lifelong.methods.dafnet_network import DAFNetConfig
from modeledit_jax.lifelong.methods.dafnet_training import SequenceTraining
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.methods.preconditioned import Preconditioned
from modeledit_jax.lifelong.methods.unedited import Unedited
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.scoring import score_besides, score_stream, unedited_answers
from modeledit_jax.lifelong.stream import compiled_stream, start_stream
from modeledit_jax.lifelong.value_writer import WriterTraining
from modeledit_jax.memory import live_bytes, tree_bytes

RLEDIT = HypernetworkEditor(
    "malmen", network=HypernetworkConfig(rank=2, num_blocks=1), training=MetaTraining(updates=4)
)
LEARNING = {
    "rledit": RLEDIT,
    "rledit-text": Preconditioned(RLEDIT),
    "dafnet": DAFNet(
        DAFNetConfig(inner_size=8, mlp_size=12, attention_size=4, score_size=3),
        training=SequenceTraining(updates=2, sequence=4),
    ),
    "written": ClosedForm("nothing", layers=(1,), contexts=0, writer=WriterTraining(hidden=8)),
}


@pytest.fixture(scope="module")
def task(model, facts):
    asked = jax.tree.map(lambda leaf: leaf.reshape(1, -1, leaf.shape[-1]), facts.rephrase)
    return FactTask(model, facts, facts, asked, asked, first=3)


@pytest.fixture(scope="module")
def ready(task):
    return prepared(task, 10**9)


@pytest.fixture(scope="module")
def least(task):
    """Bytes for one question at a time."""
    with pytest.raises(ValueError, match="too small for one question to the model") as error:
        prepared(task, 100)
    assert "\n" not in str(error.value) and "give at least that" in str(error.value)
    budgets = range(prepared(task).scoring.budget.stored, 10**7, 500)
    return next(budget for budget in budgets if fits(task, budget))


def fits(task, budget):
    try:
        prepared(task, budget)
    except ValueError:
        return False
    return True


def rows(task):
    return [group.place.shape[1] for group in task.questions] + [
        part.tokens.shape[1] for part in (task.sentences, task.untouched)
    ]


def test_every_budget_is_kept_and_a_larger_one_never_asks_less_at_a_time(task, ready, least):
    found = []
    for factor in np.geomspace(1, 8, 12):
        own = prepared(task, int(factor * least))
        plan = own.scoring
        assert plan.budget.stored + plan.passes <= plan.budget.total == int(factor * least)
        assert plan.questions == max(rows(own))
        found.append(rows(own))
    for fewer, more in pairwise(found):
        assert all(a <= b for a, b in zip(fewer, more, strict=True))
    assert 1 in found[0] and found[-1] == rows(ready) and max(rows(ready)) == 35


def test_the_default_budget_asks_as_much_as_ever(task, ready):
    assert rows(prepared(task)) == rows(ready)
    assert not prepared(task).scoring.budget.stated


@pytest.mark.slow
def test_scores_do_not_depend_on_the_budget(model, task, ready, least):
    kernels = {name: 1.3 * kernel for name, kernel in model.kernels().items()}
    tight = prepared(task, least)
    assert rows(tight) != rows(ready)

    def scores(task):
        unedited = unedited_answers(model, task.questions)
        batches = jnp.int32(task.edits.batches)
        given = (task.questions, task.edits.real, unedited, batches, 3)
        besides = score_besides(model, kernels, task.sentences, task.untouched)
        return score_stream(model, kernels, *given), besides

    for one, other in zip(*(jax.tree.leaves(scores(t)) for t in (tight, ready)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def sized(method, task):
    return method.sized_for(task.model, task.streams)


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_a_method_that_learns_reads_fewer_facts_of_a_batch(name, task, ready):
    method = sized(LEARNING[name], ready)
    whole = plan_facts(method, ready.model, ready.train, ready.scoring)
    assert whole.facts is None and whole.batch == 3 and whole.training > 0
    assert str(whole).endswith("35 questions at a time, 3 of 3 facts of a batch in training")
    total = ready.scoring.budget.stored + whole.training
    tight = replace(ready.scoring, budget=replace(ready.scoring.budget, total=total - 1))
    one = plan_facts(method, ready.model, ready.train, tight)
    assert one.facts == 1 and one.training < whole.training
    assert "1 of 3 facts" in str(one)
    total = ready.scoring.budget.stored + one.training
    none = replace(tight, budget=replace(tight.budget, total=total - 1))
    with pytest.raises(
        ValueError, match="too small for the training of the method, which"
    ) as error:
        plan_facts(method, ready.model, ready.train, none)
    assert "\n" not in str(error.value)
    tried = replace(none, budget=replace(none.budget, stated=False))
    assert plan_facts(method, ready.model, ready.train, tried).facts == 1


def test_what_learns_nothing_is_not_planned(ready):
    plan = plan_facts(Unedited(), ready.model, ready.train, ready.scoring)
    assert plan.training == 0 and str(plan).endswith("of 1 GB: 35 questions at a time")
    untrained = plan_facts(RLEDIT, ready.model, None, ready.scoring)
    assert untrained.training == 0


@pytest.mark.slow
def test_what_was_planned_is_not_traced_again(ready, monkeypatch):
    step, traced = meta_training._step, []

    def counted(*arguments):
        traced.append(None)
        return step(*arguments)

    monkeypatch.setattr(meta_training, "_step", counted)
    network = HypernetworkConfig(rank=3, num_blocks=1)  # of no other test
    method = sized(replace(RLEDIT, network=network), ready)
    assert plan_facts(method, ready.model, ready.train, ready.scoring).facts is None
    method.train(ready.model, ready.train, jax.random.key(0))
    assert len(traced) == 1


EDITING = {
    "ft-m": FineTune(steps=3),
    "values": ClosedForm("nothing", layers=(1,), contexts=0),
    "rledit": replace(RLEDIT, training=None),
}


def plan_edits(method, ready, scoring):
    own = method.sized_for(ready.model, (ready.edits,))
    start = start_stream(ready.model, own.init(ready.model, jax.random.key(0)), jax.random.key(1))
    return plan_editing(own, ready.model, start, ready.edits, scoring)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITING)
def test_a_batch_is_edited_in_by_fewer_facts_at_a_time(name, ready):
    method = EDITING[name]
    whole = plan_edits(method, ready, ready.scoring)
    assert whole.facts is None
    assert str(whole).endswith("of 1 GB: 3 of 3 facts of a batch in editing")
    own = method.sized_for(ready.model, (ready.edits,))
    start = start_stream(ready.model, own.init(ready.model, jax.random.key(0)), jax.random.key(1))
    places = (jnp.int32(0), jnp.int32(1))
    passing = live_bytes(partial(compiled_stream, own), ready.model, start, ready.edits, *places)
    assert whole.editing == passing + tree_bytes(start.editor)
    total = ready.scoring.budget.stored + whole.editing
    tight = replace(ready.scoring, budget=replace(ready.scoring.budget, total=total - 1))
    one = plan_edits(method, ready, tight)
    assert one.facts == 1 and one.editing < whole.editing
    least = replace(
        tight, budget=replace(tight.budget, total=tight.budget.stored + one.editing - 1)
    )
    with pytest.raises(ValueError, match="too small for an edit of a batch, which") as error:
        plan_edits(method, ready, least)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_what_is_found_ahead_is_found_of_fewer_facts_at_a_time(ready):
    # Nothing reads the subjects above the last layer: of the essence only rounding would be left.
    values = ValueSearch(essence=0.0)
    method = ClosedForm("nothing", layers=(1,), contexts=0, source="unedited", values=values)
    method = sized(method, ready)
    batch = jax.tree.map(lambda leaf: leaf[0], ready.edits)
    given = (jax.jit(method.find_ahead), ready.model, batch)
    assert facts_ahead(*given, ready.scoring) is None
    budget = ready.scoring.budget
    needed = live_bytes(*given)
    tight = replace(ready.scoring, budget=replace(budget, total=budget.stored + needed - 1))
    assert facts_ahead(*given, tight) == 1
    found = method.find_ahead(ready.model.replace(rows_at_once=1), batch)
    np.testing.assert_allclose(found, method.find_ahead(ready.model, batch), rtol=1e-3, atol=1e-5)


def batches(count, size, length):
    """Shapes of facts."""
    shape = jax.ShapeDtypeStruct((count, size, length), jnp.int32)
    part = TokenBatch(shape, jax.ShapeDtypeStruct(shape.shape, jnp.bool_), shape)
    subjects = jax.ShapeDtypeStruct((count, size), jnp.int32)
    return FactBatch(part, part, part, None, None, None, subjects)


@pytest.mark.slow
def test_what_the_compiler_reserves_is_no_more_than_planned_and_falls_with_the_facts():
    config = tiny_llama(300, width=32, num_layers=2, num_heads=2, mlp_width=64, context=32)
    params = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    model = EditableModel.create(config, params, "layers/*/mlp/down")
    method, facts = replace(RLEDIT, rows=64), batches(2, 16, 16)
    reserved = []
    for few in (None, 4, 1):
        own = model.replace(rows_at_once=few)
        key = jax.eval_shape(jax.random.key, 0)
        start = partial(meta_training.start_training, method, method.training)
        state = jax.eval_shape(start, own, key)
        program = meta_training.compiled_train_steps.lower(
            method, method.training, own, state, facts, 4
        )
        reserved.append(program.compile().memory_analysis().temp_size_in_bytes)
        assert reserved[-1] <= method.training_bytes(own, facts)
    assert reserved[0] > 1.5 * reserved[1] > 1.5 * reserved[2]
