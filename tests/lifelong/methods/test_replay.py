"""Facts edited in again: which, by which changes, and which are kept."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.evaluation.knowledge import mean_log_probability
from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.replay import Replay, stored
from modeledit_jax.lifelong.model import commit
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from tests.lifelong.test_stream import assert_same

KEY = jax.random.key(0)
VALUES = ValueSearch(steps=4, learning_rate=0.1)
BASE = ClosedForm("nothing", size_penalty=0.1, history=True, contexts=0, values=VALUES)
OURS = Replay(BASE, facts=2, candidates=8, room=8)

edit = jax.jit(lambda method, *args: method.edit(*args), static_argnums=0)


def batch_of(facts, place):
    return jax.tree.map(lambda leaf: leaf[place], facts)


def started(method, model, facts):
    method = method.sized_for(model, (facts,))
    return method, method.init(model, KEY)


def test_the_first_batch_is_that_of_the_method_alone(deep, facts):
    ours, state = started(OURS, deep, facts)
    alone, plain = started(BASE, deep, facts)
    kernels, batch = deep.kernels(), batch_of(facts, 0)
    found, after = edit(ours, deep, kernels, state, batch, KEY)
    expected, _ = edit(alone, deep, kernels, plain, batch, KEY)
    for name, kernel in commit(kernels, expected).items():
        np.testing.assert_allclose(commit(kernels, found)[name], kernel, atol=1e-6)
    assert int(after.seen) == int(batch.real.sum())


def test_the_least_likely_facts_so_far_are_edited_in_again(deep, facts):
    """All of the first batch are candidates; the reference goes step by step, without `Replay`."""
    ours, state = started(OURS, deep, facts)
    alone, plain = started(BASE, deep, facts)
    kernels, first, second = deep.kernels(), batch_of(facts, 0), batch_of(facts, 1)
    changes, state = edit(ours, deep, kernels, state, first, KEY)
    kernels = commit(kernels, changes)
    found, after = edit(ours, deep, kernels, state, second, KEY)

    expected, plain = edit(alone, deep, deep.kernels(), plain, first, KEY)
    own, plain = edit(alone, deep, commit(deep.kernels(), expected), plain, second, KEY)
    between = commit(kernels, own)
    likely = mean_log_probability(deep.answer_logits(between, first.edit), first.edit.answers)
    least = np.argsort(np.asarray(likely))[:2]
    chosen = jax.tree.map(lambda leaf: leaf[least], first)
    again, _ = edit(alone, deep, between, plain, chosen, KEY)
    total = commit(between, again)
    for name, kernel in commit(kernels, found).items():
        np.testing.assert_allclose(kernel, total[name], atol=1e-5)
        assert np.abs(total[name] - between[name]).max() > 1e-3
    for name, expected in plain.preconditioners.items():  # what is replayed is not remembered twice
        np.testing.assert_allclose(after.editor.preconditioners[name], expected, atol=1e-6)


def test_a_stream_in_two_parts_is_the_stream(deep, facts):
    ours, state = started(OURS, deep, facts)
    whole, _ = edit_stream(ours, deep, start_stream(deep, state, KEY), facts)
    parts = start_stream(deep, state, KEY)
    for cut in (slice(0, 1), slice(1, None)):
        part = jax.tree.map(lambda leaf: leaf[cut], facts)  # noqa: B023
        parts, _ = edit_stream(ours, deep, parts, part)
    assert_same(whole, parts)
    alone, plain = started(BASE, deep, facts)
    unlike, _ = edit_stream(alone, deep, start_stream(deep, plain, KEY), facts)
    assert any(np.abs(whole.kernels[n] - unlike.kernels[n]).max() > 1e-3 for n in unlike.kernels)


def test_facts_are_kept_in_order_while_there_is_room(deep, facts):
    _, state = started(OURS, deep, facts)
    batch = batch_of(facts, 0)
    attention = jnp.asarray(batch.edit.attention).at[1].set(False)
    labels = jnp.asarray(batch.edit.labels).at[1].set(-100)
    with_filler = replace(batch, edit=replace(batch.edit, attention=attention, labels=labels))
    kept, seen = stored(state.facts, state.seen, with_filler, KEY)
    assert int(seen) == len(labels) - 1
    rows = [row for row in range(len(labels)) if row != 1]
    np.testing.assert_array_equal(kept.edit.tokens[: len(rows)], batch.edit.tokens[jnp.array(rows)])
    assert not kept.edit.attention[len(rows) :].any()


def test_of_more_facts_all_are_equally_likely_to_be_kept(deep, facts):
    """Twelve facts, a room of three: each is kept with probability 1/4."""
    ours, _ = started(replace(OURS, facts=1, candidates=1, room=3), deep, facts)
    batch = batch_of(facts, 0)
    size, steps, draws = batch.subject_last.shape[0], 4, 2_000

    def kept(key):
        facts, seen = ours.rows.empty(3), jnp.zeros((), jnp.int32)
        for step, own in enumerate(jax.random.split(key, steps)):
            numbered = replace(batch, subject_last=size * step + jnp.arange(size, dtype=jnp.int32))
            facts, seen = stored(facts, seen, numbered, own)
        return facts.subject_last

    found = np.asarray(jax.jit(jax.vmap(kept))(jax.random.split(KEY, draws)))
    assert all(len(set(row)) == 3 for row in found)
    share, total = 3 / (size * steps), size * steps
    counts = np.bincount(found.ravel(), minlength=total) / draws
    assert len(counts) == total
    np.testing.assert_allclose(counts, share, atol=5 * np.sqrt(share * (1 - share) / draws))


@pytest.mark.parametrize("sizes", [(0, 8, 8), (5, 4, 8), (2, 9, 8)])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match="give at least one fact, and of the next no fewer"):
        Replay(BASE, *sizes)


def test_rows_have_to_be_known_and_alike(deep, facts):
    with pytest.raises(ValueError, match="call sized_for first"):
        OURS.init(deep, KEY)
    ours, _ = started(OURS, deep, facts)
    longer = {
        name: jnp.pad(getattr(facts.edit, name), [(0, 0), (0, 0), (0, 4)], constant_values=filler)
        for name, filler in (("tokens", 0), ("attention", False), ("labels", -100))
    }
    with pytest.raises(ValueError, match="facts of another length"):
        ours.sized_for(deep, (replace(facts, edit=replace(facts.edit, **longer)),))
