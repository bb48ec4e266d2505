"""From a batch of facts to changes of all modules."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.methods.normalization import RunningMoments
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.model import EditableModel, commit, dense_change
from modeledit_jax.lifelong.objective import answer_loss
from modeledit_jax.lifelong.token_gradients import capture, rows_needed

NETWORK = HypernetworkConfig(rank=4, num_blocks=2, edit_lr=0.05)
KEY = jax.random.key(0)


def edited(editor, model, batch):
    state = editor.init(model, KEY)
    return editor.edit(model, model.kernels(), state, batch, jax.random.key(1))


@pytest.mark.slow
@pytest.mark.parametrize("minibatch", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_an_untrained_network_edits_by_the_normalized_gradient(model, batch, minibatch):
    """By hand, with a dense solve: the network is the identity at first."""
    editor = HypernetworkEditor("malmen", rows=6, network=NETWORK, minibatch=minibatch)
    changes, state = edited(editor, model, batch)
    name = "layers/1/mlp/down"  # alone in its group
    parts = (
        [batch.edit]
        if minibatch is None
        else [
            jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batch.edit)
            for i in range(batch.edit.tokens.shape[0])
        ]
    )
    found = [capture(model, model.kernels(), part, 6)[1] for part in parts]
    keys, values = (
        np.concatenate([np.asarray(getattr(r, side)[name])[np.asarray(r.mask)] for r in found])
        for side in ("keys", "values")
    )
    joined = np.concatenate([keys, values], 1)
    assert state.statistics["24x16"].count == len(joined)
    normal = (joined - joined.mean(0)) / (joined.std(0, ddof=1) + 2.0**-23)
    pseudo_keys, pseudo_values = normal[:, :24], normal[:, 24:]
    targets = -0.05 * (keys * pseudo_keys).sum(1, keepdims=True) * pseudo_values
    expected = np.linalg.solve(keys.T @ keys + np.eye(24), keys.T @ targets)
    np.testing.assert_allclose(dense_change(changes[name]), expected, rtol=2e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["malmen", "mend", "ultraedit"])
def test_a_small_edit_makes_the_new_answers_likelier(model, batch, rule):
    tokens = "all" if rule == "mend" else "answer"
    editor = HypernetworkEditor(
        rule,
        rows=24,
        network=replace(NETWORK, edit_lr=1e-3),
        tokens=tokens,
        learning_rate=1e-3,
    )
    changes, _ = edited(editor, model, batch)

    def loss(kernels):
        return answer_loss(model.logits(kernels, batch.edit), batch.edit.labels)

    assert loss(commit(model.kernels(), changes)) < loss(model.kernels())


@pytest.mark.slow
def test_statistics_go_on_counting(model, stream):
    editor = HypernetworkEditor("ultraedit", rows=6)
    state = editor.init(model, KEY)
    seen = 0
    for step in range(2):
        batch = jax.tree.map(lambda leaf, t=step: leaf[t], stream)
        _, state = editor.edit(model, model.kernels(), state, batch, KEY)
        seen += int(batch.edit.scored.sum())
    assert isinstance(state.statistics["16x24"], RunningMoments)
    assert state.statistics["24x16"].count == seen
    assert state.statistics["16x24"].count == 2 * seen  # two modules share the group


@pytest.mark.slow
def test_routing_masks_changes(model, batch):
    editor = HypernetworkEditor(
        "malmen", rows=6, network=NETWORK, routing=Routing("fixed", fixed=(2,))
    )
    changes, _ = edited(editor, model, batch)
    done = commit(model.kernels(), changes)
    kept = [bool((done[n] == w).all()) for n, w in model.kernels().items()]
    assert kept == [True, True, False]
    plain, _ = edited(replace(editor, routing=None), model, batch)
    name = model.modules[2]
    np.testing.assert_array_equal(dense_change(changes[name]), dense_change(plain[name]))


@pytest.mark.slow
def test_it_is_the_same_under_jit(model, batch):
    editor = HypernetworkEditor("malmen", rows=6, network=NETWORK)
    state = editor.init(model, KEY)
    eager, _ = editor.edit(model, model.kernels(), state, batch, KEY)
    jitted, _ = jax.jit(editor.edit)(model, model.kernels(), state, batch, KEY)
    for name in model.modules:
        np.testing.assert_allclose(
            dense_change(eager[name]), dense_change(jitted[name]), rtol=1e-3, atol=1e-6
        )
    assert jnp.isfinite(dense_change(jitted[model.modules[0]])).all()


def test_a_minibatch_that_does_not_divide_the_batch_is_refused(model, batch):
    with pytest.raises(ValueError, match="3 facts has no parts of 2"):
        edited(HypernetworkEditor("malmen", rows=6, network=NETWORK, minibatch=2), model, batch)


@pytest.mark.parametrize("minibatch", [None, 1])
def test_rows_that_do_not_hold_a_batch_are_refused_before_anything_is_compiled(
    model, stream, minibatch
):
    whole, part = rows_needed(stream.edit), rows_needed(stream.edit, minibatch=1)
    needed = part if minibatch else whole
    editor = HypernetworkEditor("malmen", rows=needed, network=NETWORK, minibatch=minibatch)
    assert editor.sized_for(model, (stream,)) is editor
    tight = replace(editor, rows=needed - 1, training=MetaTraining(updates=1))
    batch = jax.tree.map(lambda leaf: leaf[_fullest(stream, minibatch)], stream)
    for call in (
        lambda: tight.sized_for(model, (stream,)),
        lambda: tight.train(model, stream, KEY),
        lambda: edited(tight, model, batch),
    ):
        with pytest.raises(ValueError, match=f"rows={needed - 1}: .*give at least rows={needed}"):
            call()


def _fullest(stream, minibatch):
    per_row = np.asarray(stream.edit.scored).sum(-1)
    return int((per_row.max(-1) if minibatch else per_row.sum(-1)).argmax())


def test_sizes_are_whole_numbers_from_one(model, stream):
    for name in ("rows", "minibatch"):
        with pytest.raises(ValueError, match=f"{name}=0: give at least 1, or None"):
            HypernetworkEditor("malmen", **{name: 0})
    with pytest.raises(ValueError, match="3 facts has no parts of 2: the minibatch must divide"):
        HypernetworkEditor("malmen", minibatch=2).sized_for(model, (stream,))


@pytest.mark.parametrize("rule", ["malmen", "ultraedit"])
@pytest.mark.parametrize("modules", ["layers/0/mlp/up", "layers/*/mlp/down"])
def test_a_state_of_other_modules_is_refused(model, batch, rule, modules):
    """JAX would clamp the index of a module beyond the last one."""
    editor = HypernetworkEditor(rule, network=NETWORK)
    other = EditableModel.create(model.config, model.params, modules)
    state = editor.init(other, KEY)
    with pytest.raises(ValueError, match=r"the state of the editor is of .* train it on this"):
        editor.edit(model, model.kernels(), state, batch, KEY)
