"""DAFNet as an editor of streams."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.records import keep_facts
from modeledit_jax.lifelong.methods.dafnet import DAFNet
from modeledit_jax.lifelong.methods.dafnet_network import DAFNetConfig
from modeledit_jax.lifelong.model import EditableModel, commit, dense_change
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from modeledit_jax.lifelong.token_gradients import capture, row_facts
from tests.lifelong.test_stream import assert_same, part

NETWORK = DAFNetConfig(inner_size=8, mlp_size=12, attention_size=4, score_size=3, edit_lr=0.05)
EDITOR = DAFNet(NETWORK, memory=16, rows=24)
KEY = jax.random.key(0)
fresh = jax.jit(DAFNet.init, static_argnums=0)
edit = jax.jit(DAFNet.edit, static_argnums=0)


def after(editor, model, stream, state=None):
    """Kernels and state after a stream."""
    start = start_stream(model, fresh(editor, model, KEY) if state is None else state, KEY)
    return edit_stream(editor, model, start, stream)[0]


def assert_close(found, expected, rtol=1e-4, atol=1e-5):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=atol)


@pytest.mark.slow
def test_rows_are_of_the_sum_of_the_losses_and_of_the_tokens_that_have_a_gradient(model, batch):
    """Beside one fact at a time, whose mean times its answer's tokens is the same."""
    kernels = model.kernels()
    seen = EDITOR.rows_of(model, kernels, batch.edit, 24)
    assert seen.real.all()
    names = {"16x24": ("layers/0/mlp/up", "layers/1/mlp/up"), "24x16": ("layers/1/mlp/down",)}
    for fact in range(3):
        one = jax.tree.map(lambda leaf, f=fact: leaf[f : f + 1], batch.edit)
        _, alone = capture(model, kernels, one, 24, "all")
        for group, modules in names.items():
            for index, name in enumerate(modules):
                values = np.asarray(alone.values[name] * one.scored.sum())
                used = (values != 0).any(-1)
                expected = np.concatenate([np.asarray(alone.keys[name]), values], -1)[used]
                own = np.asarray(seen.belongs[group])[index, fact]
                found = np.asarray(seen.rows[group])[index, own]
                np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    # In the last layer no gradient comes from where nothing is predicted.
    assert seen.belongs["16x24"][1].sum() == batch.edit.scored.sum()
    assert seen.belongs["16x24"][0].sum() > batch.edit.scored.sum()


def test_rows_know_their_facts(batch):
    facts = row_facts(batch.edit, 6, "answer")
    counts = np.asarray(batch.edit.scored).sum(-1)
    np.testing.assert_array_equal(facts[: counts.sum()], np.repeat(np.arange(3), counts))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["unedited", "current"])
def test_a_stream_in_parts_is_the_whole_stream(model, stream, source):
    editor = replace(EDITOR, source=source)
    whole = after(editor, model, stream)
    state = start_stream(model, fresh(editor, model, KEY), KEY)
    for begin, end in ((0, 1), (1, None)):
        state, _ = edit_stream(editor, model, state, part(stream, begin, end))
    assert_same(state, whole)
    assert whole.editor.memory.facts == 12
    assert all(np.isfinite(kernel).all() for kernel in whole.kernels.values())


@pytest.mark.slow
def test_facts_that_fill_up_are_left_out(model, stream):
    """One of three in every batch, against streams of batches of two."""
    kept = jnp.array([True, False, True])
    filled = after(EDITOR, model, keep_facts(stream, jnp.broadcast_to(kept, (4, 3))))
    fewer = after(EDITOR, model, jax.tree.map(lambda leaf: leaf[:, kept], stream))
    assert_close(filled.kernels, fewer.kernels)
    assert_close(filled.editor.memory, fewer.editor.memory)
    nothing = keep_facts(stream, jnp.zeros((4, 3), bool))
    idle = after(EDITOR, model, nothing)
    assert_same(idle.kernels, model.kernels())
    assert idle.editor.memory.facts == 0


@pytest.mark.slow
def test_facts_one_by_one_are_facts_together(model, stream):
    """With one layer: with more, the mean of products is not the product of means."""
    editor = replace(EDITOR, network=replace(NETWORK, num_layers=1))
    together = after(editor, model, stream)
    alone = after(
        editor, model, jax.tree.map(lambda leaf: leaf.reshape(12, 1, *leaf.shape[2:]), stream)
    )
    assert_close(together.kernels, alone.kernels)
    assert_close(together.editor.memory, alone.editor.memory)


@pytest.mark.slow
def test_the_last_edit_alone_is_left_if_every_fact_is_worth_everything(model, stream):
    """A first fact is worth everything, s = 1, and with nothing remembered every fact is one."""
    state = fresh(EDITOR, model, KEY)
    kernels = model.kernels()
    for step in range(2):
        one = jax.tree.map(lambda leaf, s=step: leaf[s, :1], stream)
        changes, _ = edit(EDITOR, model, kernels, state, one, KEY)
        kernels = commit(kernels, changes)
    alone = commit(model.kernels(), edit(EDITOR, model, model.kernels(), state, one, KEY)[0])
    assert_close(kernels, alone)


@pytest.mark.slow
def test_uniform_attention_leaves_the_mean_of_all_edits(model, stream):
    """s_t = 1/t, where no fact sees another: every fact fades as the stream grows."""
    state = fresh(EDITOR, model, KEY)
    networks = {}
    for group, network in state.networks.items():
        layers = network.layers
        worth, output = (jax.tree.map(jnp.zeros_like, part)
                         for part in (layers.worth, layers.values.output))  # fmt: skip
        layers = layers.replace(worth=worth, values=layers.values.replace(output=output))
        networks[group] = network.replace(layers=layers)
    state = state.replace(networks=networks)
    done = after(EDITOR, model, stream, state)
    kernels = model.kernels()
    total = {name: jnp.zeros_like(kernel) for name, kernel in kernels.items()}
    for call in range(4):
        for fact in range(3):
            one = jax.tree.map(lambda leaf, c=call, f=fact: leaf[c, f : f + 1], stream)
            changes, _ = edit(EDITOR, model, kernels, state, one, KEY)
            total = {name: total[name] + dense_change(changes[name]) for name in total}
    found = {name: done.kernels[name] - kernels[name] for name in kernels}
    assert_close(found, {name: change / 12 for name, change in total.items()}, rtol=1e-3)


@pytest.mark.slow
def test_without_a_learning_rate_nothing_changes(model, stream):
    editor = replace(EDITOR, network=replace(NETWORK, edit_lr=0.0))
    done = after(editor, model, stream)
    assert_same(done.kernels, model.kernels())
    assert done.editor.memory.facts == 12


@pytest.mark.slow
def test_it_is_the_same_without_jit(model, batch):
    state = fresh(EDITOR, model, KEY)
    kernels = {name: 1.1 * kernel for name, kernel in model.kernels().items()}
    one, stored = edit(EDITOR, model, kernels, state, batch, KEY)
    with jax.disable_jit():
        other, kept = EDITOR.edit(model, kernels, state, batch, KEY)
    assert_close([dense_change(one[name]) for name in model.modules],
                 [dense_change(other[name]) for name in model.modules], rtol=1e-3)  # fmt: skip
    assert_close(stored.memory, kept.memory, rtol=1e-3)


@pytest.mark.slow
def test_of_a_small_memory_the_latest_facts_are_seen(model, stream):
    """Of twelve facts three are remembered, as if the stream had begun with these. In one layer:
    the representations of a second one hold what was seen of the facts before."""
    small = replace(EDITOR, memory=3, network=replace(NETWORK, num_layers=1))
    before = after(small, model, part(stream, 0, 3))
    late = after(small, model, part(stream, 2, 3))
    assert before.editor.memory.facts == 9 and late.editor.memory.facts == 3
    last = jax.tree.map(lambda leaf: leaf[3], stream)
    seen, expected = (
        edit(small, model, model.kernels(), state.editor, last, KEY)[0] for state in (before, late)
    )
    assert_close([dense_change(seen[name]) for name in model.modules],
                 [dense_change(expected[name]) for name in model.modules], rtol=1e-3)  # fmt: skip
    large = replace(small, memory=16)
    whole = after(large, model, part(stream, 0, 3))
    more, _ = edit(large, model, model.kernels(), whole.editor, last, KEY)
    name = model.modules[0]
    assert not np.allclose(dense_change(more[name]), dense_change(seen[name]), rtol=1e-2)


def test_it_is_made_for_its_streams(model, stream):
    sized = DAFNet(NETWORK).sized_for(model, (stream, part(stream, 0, 1)))
    needed = int(np.asarray(stream.edit.attention).sum((1, 2)).max())
    assert sized.memory == 16 and sized.rows == -(-needed // 8) * 8
    few = keep_facts(stream, jnp.arange(12).reshape(4, 3) < 5)
    assert DAFNet(NETWORK, rows=needed).sized_for(model, (few,)).memory == 8
    assert sized.sized_for(model, (part(stream, 0, 2),)) == sized
    assert hash(sized) is not None


def test_what_does_not_fit_is_refused(model, stream, batch):
    for name in ("memory", "rows"):
        with pytest.raises(ValueError, match=f"{name}=0: give at least 1, or None"):
            DAFNet(**{name: 0})
    with pytest.raises(ValueError, match="memory=None: give the number of facts"):
        DAFNet(NETWORK).init(model, KEY)
    with pytest.raises(ValueError, match=r"rows=3: a batch has \d+ tokens"):
        replace(EDITOR, rows=3).sized_for(model, (stream,))
    other = EditableModel.create(model.config, model.params, "layers/0/mlp/up")
    state = jax.eval_shape(lambda: EDITOR.init(other, KEY))
    with pytest.raises(ValueError, match=r"the model edits \{'16x24': 2, '24x16': 1\}: train it"):
        EDITOR.edit(model, model.kernels(), state, batch, KEY)
