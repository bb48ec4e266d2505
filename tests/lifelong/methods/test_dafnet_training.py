"""Training of DAFNet, step for step that of the public code (``goldens/README.md``)."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.records import keep_facts
from modeledit_jax.lifelong.methods import dafnet_training
from modeledit_jax.lifelong.methods.dafnet import EPSILON, DAFNet, DAFNetState
from modeledit_jax.lifelong.methods.dafnet_changes import (
    FactRows,
    Memory,
    count_and_normalize,
    new_changes,
    transform,
)
from modeledit_jax.lifelong.methods.dafnet_network import DAFNetConfig
from modeledit_jax.lifelong.methods.dafnet_training import (
    Curriculum,
    SequenceSize,
    SequenceTraining,
    draw_judged,
    draw_sequence,
    grow,
    sequence_size,
    start_training,
    update,
)
from modeledit_jax.lifelong.methods.hypernetwork import init_statistics
from modeledit_jax.lifelong.model import commit, dense_change
from modeledit_jax.lifelong.stream import train_in_memory
from tests.lifelong.golden import dafnet, load, relative_error, section
from tests.lifelong.golden_model import golden_model, golden_stream
from tests.lifelong.test_stream import assert_same

NETWORK = DAFNetConfig(inner_size=8, mlp_size=12, attention_size=4, score_size=3)
EDITOR = DAFNet(NETWORK, memory=12)
TRAINING = SequenceTraining(
    updates=6, learning_rate=1e-3, rate_step=1e-3, sequence=5, judged=3, patience=1, least_growth=2
)
KEY = jax.random.key(0)
GROUPS = ("32x48", "48x32")


def golden_networks(arrays, prefix):
    """By group; the released learning rates are in the order of the modules."""
    rates = dict(zip(arrays["modules"], arrays[f"{prefix}lr"], strict=True))
    return {
        group: dafnet(
            arrays,
            f"{prefix}{group}/",
            [lr for name, lr in rates.items() if name.endswith("down") == (group == "48x32")],
        )
        for group in GROUPS
    }


@jax.jit
def first_changes(model, networks, statistics, seen):
    """Of facts before which there were none, as in training."""
    _, seen = count_and_normalize(statistics, seen)
    found = transform(networks, seen, Memory.empty(model, 0, NETWORK), NETWORK, True)
    return new_changes(model, networks, seen, found)


def assert_close(found, golden, tolerance):
    for path, one in jax.tree.leaves_with_path(found):
        other = dict(jax.tree.leaves_with_path(golden))[path]
        scale = max(float(np.abs(other).max()), 1e-3)
        assert np.abs(one - other).max() < tolerance * scale, jax.tree_util.keystr(path)


def assert_adam(found, golden, step):
    """But for few parameters whose gradient is all but zero, of which Adam makes whole steps."""
    off = np.concatenate([
        np.abs(np.asarray(one) - np.asarray(other)).ravel()
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(golden), strict=True)
    ])  # fmt: skip
    assert off.max() < step / 2 and np.mean(off > 1e-3 * step) < 1e-3


@pytest.mark.slow
def test_two_updates_and_three_calls_are_those_of_the_public_code():
    """From the rows of the tiny Llama to the kernels: losses, the gradient, the normalizer and the
    networks after Adam, then the sum of changes while editing, and what is remembered."""
    arrays, inputs = load("dafnet_trajectory"), load("trajectory_inputs")
    with jax.enable_x64(True):
        model, stream = golden_model(inputs["modules"]), golden_stream(inputs, 3)
        training = SequenceTraining(learning_rate=1e-3, rate_step=1e-3)
        statistics = init_statistics(model.shapes, epsilon=EPSILON, dtype=jnp.float64)
        networks = golden_networks(arrays, "theta/")
        state = start_training(networks, statistics, training, KEY)
        size = SequenceSize(1, 4, 64)
        step = jax.jit(partial(update, EDITOR, training), static_argnums=4)
        rows_of = jax.jit(partial(EDITOR.rows_of, rows=64))
        for t in range(2):
            facts = jax.tree.map(lambda leaf, t=t: leaf[t], stream)
            seen = rows_of(model, model.kernels(), facts.edit)
            for index, name in enumerate(model.modules[:4]):
                used = np.asarray(seen.belongs["32x48"][index])
                golden = arrays[f"step/{t}/rows/{name}"]
                found = np.asarray(seen.rows["32x48"][index])[used.any(0)]
                assert relative_error(found, golden) < 1e-5  # stored in float32
                np.testing.assert_array_equal(used.sum(1), arrays[f"step/{t}/lengths/{name}"])
            if t == 0:
                for name, change in first_changes(model, networks, statistics, seen).items():
                    golden = arrays[f"step/0/delta/{name}"]
                    assert relative_error(dense_change(change), golden) < 1e-5
            state, metrics = step(model, state, facts, facts, size)
            np.testing.assert_allclose(metrics["loss"], arrays[f"step/{t}/loss"], rtol=1e-6)
            np.testing.assert_allclose(
                metrics["gradient_norm"], arrays[f"step/{t}/norm"], rtol=1e-4
            )
            for group in GROUPS:
                golden = section(arrays, f"step/{t}/bn/{group}/")
                own = state.statistics[group]
                assert relative_error(own.mean, golden["mean"]) < 1e-6
                assert relative_error(own.std, golden["std"]) < 1e-6
                assert own.count == golden["count"]
        final = golden_networks(arrays, "final/")
        assert_adam(state.networks, final, 1e-3)
        # Adam's first moment after two steps holds the gradients; the first is compared alone.
        fresh = start_training(networks, statistics, training, KEY)
        first, _ = step(model, fresh, jax.tree.map(lambda x: x[0], stream),
                        jax.tree.map(lambda x: x[0], stream), size)  # fmt: skip
        inner = first.optimizer.inner_states["layers"].inner_state[1][0].mu
        gradient = golden_networks(arrays, "step/0/grad/")
        for group in GROUPS:
            found = jax.tree.map(lambda m: m / 0.1, inner[group].layers)
            assert_close(found, gradient[group].layers, 1e-5)

        own = DAFNetState(final, state.statistics, Memory.empty(model, 12, NETWORK))
        original = kernels = model.kernels()
        edit = jax.jit(EDITOR.edit)
        for call, t in enumerate(arrays["edit/steps"]):
            facts = jax.tree.map(lambda leaf, t=int(t): leaf[t], stream)
            changes, own = edit(model, kernels, own, facts, KEY)
            kernels = commit(kernels, changes)
            for name in model.modules:
                total = arrays[f"edit/{call}/delta/{name}"]
                assert relative_error(kernels[name] - original[name], total) < 1e-5
        down = own.memory.representations["48x32"][0]
        assert relative_error(down, arrays["edit/reps/layers/2/mlp/down"]) < 1e-5


def test_sequences_grow_as_in_the_public_code():
    arrays = load("dafnet_trajectory")
    training = SequenceTraining(sequence=40, patience=6, smoothing=0.2)
    start = Curriculum(jnp.int32(1), jnp.float32(1.0), jnp.float32(10.0), jnp.int32(0))

    def step(state, loss):
        curriculum, updates = state
        curriculum = grow(curriculum, loss, updates + 1, training)
        return (curriculum, updates + 1), (curriculum.longest, curriculum.average)

    losses = jnp.asarray(arrays["growth/losses"], jnp.float32)
    _, (longest, average) = jax.lax.scan(step, (start, jnp.int32(0)), losses)
    np.testing.assert_array_equal(longest, arrays["growth/longest"])
    np.testing.assert_allclose(average, arrays["growth/average"], rtol=1e-4)


def test_the_first_row_alone_stays_as_it_is():
    arrays = load("dafnet")
    with jax.enable_x64(True):
        statistics = init_statistics({"m": (6, 4)}, epsilon=EPSILON, dtype=jnp.float64)
        count = jax.jit(count_and_normalize)
        for step in range(3):
            golden = section(arrays, f"alone/{step}/")
            rows = np.concatenate([golden["rows"], np.full((3 - len(golden["rows"]), 10), 7.0)])
            belongs = np.arange(3)[None] < len(golden["rows"])
            statistics, seen = count(statistics, _rows(rows, belongs))
            found = seen.rows["6x4"][0]
            size = len(golden["rows"])
            np.testing.assert_allclose(found[:size], golden["normalized"], rtol=1e-9, atol=1e-12)
            assert not np.any(found[size:])
            np.testing.assert_allclose(statistics["6x4"].mean, golden["mean"], rtol=1e-12)
            if step:
                np.testing.assert_allclose(statistics["6x4"].std, golden["std"], rtol=1e-9)


def _rows(rows, belongs):
    return FactRows(
        {"6x4": jnp.asarray(rows)[None]}, {"6x4": jnp.asarray(belongs)[None]}, jnp.ones(1, bool)
    )


def flat(stream):
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stream)


@pytest.mark.slow
def test_sequences_are_different_facts_in_random_order(stream):
    """Of those that count, in the first places; what is judged is of the sequence."""
    facts = flat(stream)
    facts = keep_facts(facts, jnp.arange(12) % 4 != 1)  # nine
    marked = facts.replace(subject_last=jnp.arange(12))
    draw = jax.jit(partial(draw_sequence, facts=marked, room=7))
    seen, lengths, orders = set(), set(), set()
    for seed in range(40):
        found = draw(jax.random.key(seed), longest=jnp.int32(4))
        real = np.asarray(found.real)
        length = real.sum()
        assert real[:length].all() and 1 <= length <= 4
        drawn = np.asarray(found.subject_last)[real]
        assert len(set(drawn)) == length
        assert not set(drawn) & {1, 5, 9}
        seen |= set(drawn.tolist())
        lengths.add(int(length))
        orders.add(tuple(drawn.tolist()))
        judged = draw_judged(jax.random.key(seed), found, 2)
        chosen = np.asarray(judged.subject_last)[np.asarray(judged.real)]
        assert len(chosen) == min(2, length) and set(chosen) <= set(drawn)
    assert lengths == {1, 2, 3, 4} and len(seen) == 9 and len(orders) > 20
    every = draw(jax.random.key(0), longest=jnp.int32(40))  # of nine facts in seven places
    assert np.asarray(every.real).sum() <= 7


def test_room_is_for_the_facts_with_most_tokens(stream):
    tokens = np.sort(np.asarray(stream.edit.attention).sum(-1).ravel())
    assert sequence_size(EDITOR, TRAINING, stream) == SequenceSize(1, 5, int(tokens[-5:].sum()))
    current = replace(EDITOR, source="current")
    assert sequence_size(current, TRAINING, stream) == SequenceSize(1, 3, int(tokens[-3:].sum()))
    long = replace(TRAINING, sequence=100)
    assert sequence_size(current, long, stream).calls == 4
    assert sequence_size(EDITOR, long, stream).facts == 12


@pytest.mark.slow
def test_an_interrupted_training_is_an_uninterrupted_one(model, stream):
    editor = replace(EDITOR, source="current", detach=False, training=TRAINING)

    def run(chunk):
        record = []
        loop = partial(
            train_in_memory, report=lambda *seen: record.append(np.asarray(seen[2]["loss"]))
        )
        return editor.train(
            model, stream, KEY, lambda *a, **k: loop(*a, **(k | {"chunk": chunk}))
        ), np.concatenate(record)

    assert_same(run(6), run(2))


@pytest.mark.slow
def test_training_lowers_the_loss(model, stream):
    training = replace(TRAINING, updates=60, learning_rate=3e-3, rate_step=3e-3, patience=60)
    losses = []
    loop = partial(train_in_memory, report=lambda *seen: losses.append(seen[2]["loss"]))
    replace(EDITOR, training=training).train(model, stream, KEY, loop)
    loss = np.concatenate(losses)
    assert loss[-20:].mean() < 0.8 * loss[:10].mean()


@pytest.mark.slow
def test_facts_read_some_at_a_time_train_the_same(model, stream):
    editor = replace(EDITOR, training=replace(TRAINING, updates=2))

    def trained(model):
        return editor.train(model, stream, KEY).networks

    whole, parts = trained(model), trained(model.replace(rows_at_once=1))
    for one, other in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-4)


@pytest.mark.slow
def test_rows_of_the_current_network_are_those_that_editing_meets(model, stream):
    """Two calls of three facts: those of the second are read after the first was written."""
    editor = replace(EDITOR, source="current", network=replace(NETWORK, edit_lr=0.05))
    own = editor.init(model, KEY)
    state = start_training(own.networks, own.statistics, TRAINING, KEY)
    facts = jax.tree.map(lambda leaf: leaf[:6], flat(stream))
    size = SequenceSize(2, 3, 24)
    read = jax.jit(dafnet_training._read, static_argnums=(0, 4))
    seen = read(editor, model, state, facts, size)
    kernels = model.kernels()
    for call in range(2):
        batch = jax.tree.map(lambda leaf, c=call: leaf[c], stream)
        rows = editor.rows_of(model, kernels, batch.edit, 24)
        for group, part in seen.rows.items():
            modules, _, size_ = part.shape
            of_call = part.reshape(modules, 2, 24, size_)[:, call]
            np.testing.assert_allclose(of_call, rows.rows[group], rtol=1e-4, atol=1e-6)
            belongs = np.asarray(seen.belongs[group]).reshape(modules, 2, 3, 2, 24)
            np.testing.assert_array_equal(belongs[:, call, :, call], rows.belongs[group])
            assert not belongs[:, call, :, 1 - call].any()
        changes, own = editor.edit(model, kernels, own, batch, KEY)
        kernels = commit(kernels, changes)
    unedited = editor.rows_of(model, model.kernels(), batch.edit, 24)
    assert any(np.any(rows.rows[group] != unedited.rows[group]) for group in rows.rows)


def test_what_cannot_be_is_refused(model, stream):
    for name in ("judged", "sequence", "patience"):
        with pytest.raises(ValueError, match=f"{name}=0: give at least 1"):
            SequenceTraining(**{name: 0})
    with pytest.raises(ValueError, match="give it some to train on"):
        replace(EDITOR, training=TRAINING).train(model, None, KEY)
    labels = jnp.where(stream.locality.scored, 23, -100)
    unknown = stream.replace(locality=stream.locality.replace(labels=labels))
    with pytest.raises(ValueError, match=r"stream\.locality holds the token 23"):
        replace(EDITOR, training=TRAINING).train(model, unknown, KEY)
