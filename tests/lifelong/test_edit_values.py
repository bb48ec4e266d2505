"""The search for what a layer should say about a subject."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.contexts import ContextBatch, bare_rows
from modeledit_jax.data.facts.tokens import IGNORED
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import apply, embed, stack_layers
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values, mlp_output
from tests.language.tiny_models import GPT2, random_params

LAYER = 0
SUBJECT = np.array([1, 0, 1], np.int32)
REAL = np.array([True, True, False])

find = jax.jit(edit_values, static_argnames=("layer", "search", "answer", "window"))


def bare(batch):
    return bare_rows(batch.edit, SUBJECT)


def log_probabilities(model, facts, delta):
    """``[n, r, l, v]`` of the whole network, with δ added to what the MLP says at the subjects."""
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), facts.rows)
    each = jnp.repeat(delta, facts.subject.shape[1], axis=0)
    tap = jnp.zeros((*rows.tokens.shape, model.config.width))
    tap = tap.at[jnp.arange(len(each)), facts.subject.reshape(-1)].set(each)
    hooks = {f"layers/{LAYER}/mlp/down": Hook(tap=tap)}
    logits = apply(model.config, model.params, rows.tokens, rows.attention, hooks)[0]
    return jax.nn.log_softmax(logits).reshape(*facts.rows.tokens.shape, -1)


def sizes(model, facts):
    """Norms of the residual stream at the subjects of the first rows."""
    rows, name = jax.tree.map(lambda leaf: leaf[:, 0], facts.rows), f"layers/{LAYER}"
    stream = apply(model.config, model.params, rows.tokens, rows.attention, capture=(name,))[1]
    places = np.asarray(facts.subject)[:, 0]
    return np.linalg.norm(np.asarray(stream[name])[np.arange(len(places)), places], axis=1)


def losses(model, facts, search, size, delta):
    """The loss of every fact, by loops over its rows."""
    before = log_probabilities(model, facts, 0 * delta)
    after = log_probabilities(model, facts, delta)
    found = []
    for fact, place in enumerate(np.asarray(facts.subject)[:, -1]):
        likely = []
        for row, labels in enumerate(np.asarray(facts.rows.labels)[fact]):
            spots = np.flatnonzero(labels != IGNORED)
            if len(spots):
                likely.append(after[fact, row, spots, labels[spots]].sum() / len(spots))
        now, then = after[fact, -1, place], before[fact, -1, place]
        norm = jnp.sqrt(jnp.square(delta[fact]).sum() + 1e-30)
        found.append(
            -sum(likely) / len(likely)
            + search.essence * (jnp.exp(now) * (now - then)).sum()
            + search.decay * norm / size[fact] ** 2
        )
    return jnp.stack(found)


def adam_by_hand(model, facts, real, search):
    """Released order: judge, step, clamp; every fact alone."""
    delta = jnp.zeros((len(real), model.config.width))
    size = sizes(model, facts)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def judge(delta):
        each = losses(model, facts, search, size, delta)
        return each.sum(), each

    first, second = np.zeros(delta.shape), np.zeros(delta.shape)
    done = ~real
    for step in range(search.steps):
        (_, each), gradient = judge(delta)
        done = done | (np.asarray(each) < search.floor)
        if done.all() or step == search.steps - 1:
            break
        gradient = np.asarray(gradient)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        moved = np.asarray(delta) - search.learning_rate * first / (1 - 0.9 ** (step + 1)) / scale
        for fact in range(len(real)):
            bound = search.clamp * size[fact]
            moved[fact] *= min(1.0, bound / np.linalg.norm(moved[fact]))
        delta = jnp.where(done[:, None], delta, moved)
    return delta


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_values_are_those_of_a_plain_loop_over_the_whole_network(model, batch, steps):
    # Weights that count from the second step on; at the start both slopes are zero.
    search = ValueSearch(steps=steps, learning_rate=0.05, essence=2.0, decay=20.0)
    found = find(model, model.kernels(), bare(batch), REAL, LAYER, search, 2)
    expected = adam_by_hand(model, bare(batch), REAL, search)
    # At zero the decay has no slope here, where that of the reference's square root is tiny.
    np.testing.assert_allclose(found.delta, expected, rtol=2e-3, atol=2e-4)
    assert found.updates.tolist() == [steps - 1, steps - 1, 0]
    assert (found.delta[2] == 0).all()


@pytest.fixture(scope="module")
def framed(stream):
    """Rows of two facts, each out of another batch; the last ones have no labels."""
    rows = jax.tree.map(lambda leaf: jnp.stack([leaf[t, :2] for t in range(4)], 1), stream.edit)
    rows = rows.replace(labels=rows.labels.at[:, -1].set(IGNORED))
    return ContextBatch(rows, jnp.array([[1, 0, 1, 1], [0, 1, 1, 0]]))


@pytest.mark.slow
def test_contexts_count_alike_and_the_last_row_keeps_what_the_subject_is(model, framed):
    search = ValueSearch(steps=4, learning_rate=0.05, essence=2.0, decay=20.0)
    found = find(model, model.kernels(), framed, REAL[:2], LAYER, search, 2)
    expected = adam_by_hand(model, framed, REAL[:2], search)
    np.testing.assert_allclose(found.delta, expected, rtol=2e-3, atol=2e-4)
    last = losses(model, framed, search, sizes(model, framed), expected)
    np.testing.assert_allclose(found.loss, last, rtol=1e-3)


@pytest.mark.slow
def test_contexts_that_add_nothing_change_nothing(model, batch):
    search = ValueSearch(steps=4, learning_rate=0.05)
    once = find(model, model.kernels(), bare(batch), REAL, LAYER, search, 2)
    rows = jax.tree.map(lambda leaf: jnp.repeat(leaf, 4, axis=1), bare(batch))
    rows = rows.replace(rows=rows.rows.replace(labels=rows.rows.labels.at[:, -1].set(IGNORED)))
    again = find(model, model.kernels(), rows, REAL, LAYER, search, 2)
    np.testing.assert_allclose(again.delta, once.delta, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(again.loss, once.loss, rtol=1e-4)


@pytest.mark.slow
def test_every_fact_ends_on_its_own_and_stays_in_its_ball(model, batch):
    search = ValueSearch(steps=1, learning_rate=0.1, clamp=0.5)
    both = np.array([True, True, True])
    first = find(model, model.kernels(), bare(batch), both, LAYER, search, 2)
    assert not first.delta.any()
    search = replace(search, steps=40, floor=float(np.sort(first.loss)[1]))  # one is below it
    found = find(model, model.kernels(), bare(batch), both, LAYER, search, 2)
    _, seen = apply(
        model.config, model.params, batch.edit.tokens, batch.edit.attention, capture=("layers/0",)
    )
    bound = 0.5 * np.linalg.norm(seen["layers/0"][np.arange(3), SUBJECT], axis=1)
    assert (np.linalg.norm(found.delta, axis=1) <= bound * (1 + 1e-5)).all()
    assert ((found.loss < search.floor) | (found.updates == 39)).all()
    assert (found.updates == 0).sum() == 1 and len(set(found.updates.tolist())) == 3
    alone = [
        find(model, model.kernels(), bare(batch), np.arange(3) == row, LAYER, search, 2)
        for row in range(3)
    ]
    for row, one in enumerate(alone):
        np.testing.assert_allclose(one.delta[row], found.delta[row], rtol=1e-3, atol=1e-4)
        assert one.updates[row] == found.updates[row]


@pytest.mark.slow
def test_facts_searched_one_at_a_time_have_the_same_values(model, batch):
    search = ValueSearch(steps=1, learning_rate=0.1)
    all_real = np.array([True, True, True])
    first = find(model, model.kernels(), bare(batch), all_real, LAYER, search, 2)
    search = replace(search, steps=12, floor=float(np.sort(first.loss)[1]))  # ends differ
    facts, kernels = bare(batch), model.kernels()
    below = (0, embed(model.config, model.params, facts.rows.tokens[:, 0])[:, None])
    whole = find(model, kernels, facts, all_real, LAYER, search, 2)
    assert len(set(whole.updates.tolist())) > 1
    few = model.replace(rows_at_once=1)
    for given in (None, below):
        function = jax.jit(partial(edit_values, layer=LAYER, search=search, answer=2, below=given))
        parts = function(few, kernels, facts, all_real)
        np.testing.assert_array_equal(parts.updates, whole.updates)
        np.testing.assert_allclose(parts.delta, whole.delta, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-4)


@pytest.mark.slow
def test_a_fact_that_is_known_is_left_alone(model, batch):
    search = ValueSearch(floor=1e9)
    found = find(model, model.kernels(), bare(batch), REAL, LAYER, search)
    assert not found.delta.any() and not found.updates.any()
    assert np.isfinite(found.loss).all()


@pytest.mark.slow
def test_without_room_for_the_answer_given_all_positions_are_read(model, batch):
    search = ValueSearch(steps=3)
    data = (model, model.kernels(), bare(batch), REAL, LAYER, search)
    tight, wide = find(*data, 2), find(*data)
    np.testing.assert_allclose(tight.delta, wide.delta, rtol=1e-4, atol=1e-6)


def test_positions_that_no_value_reaches_need_not_be_run(model, framed):
    scored = np.asarray(framed.rows.labels) != IGNORED
    ends = np.where(scored, np.arange(scored.shape[-1]) + 1, 0).max(-1)
    window = int((ends - np.asarray(framed.subject)).max())
    assert 1 < window < scored.shape[-1]
    data = (model, model.kernels(), framed, REAL[:2], LAYER, ValueSearch(steps=3), 2)
    tight, wide = find(*data, window=window), find(*data)
    assert abs(wide.delta).max() > 0.01
    np.testing.assert_allclose(tight.delta, wide.delta, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tight.loss, wide.loss, rtol=1e-5)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"clamp": -1.0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*give"):
        ValueSearch(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("said", [0, 2])
def test_a_fact_is_done_some_steps_after_its_answer_is_said(model, batch, said):
    """When it is said is read off the whole network, at the values of searches that do not stop."""
    facts, real = bare(batch), np.ones(3, bool)
    # Answers that can be said: those of values drawn at random.
    drawn = 4.0 * jax.random.normal(jax.random.key(0), (3, model.config.width))
    says = log_probabilities(model, facts, drawn).argmax(-1)
    labels = jnp.where(facts.rows.labels == IGNORED, IGNORED, says)
    facts = facts.replace(rows=facts.rows.replace(labels=labels))
    search = ValueSearch(steps=12, learning_rate=0.3, clamp=99.0, decay=0.0, floor=-1e9, said=said)
    found = find(model, model.kernels(), facts, real, LAYER, search, 2)
    last, labels = search.steps - 1, np.asarray(labels)
    right = []
    for steps in range(1, search.steps + 1):
        own = replace(search, steps=steps, said=None)
        delta = find(model, model.kernels(), facts, real, LAYER, own, 2).delta
        most = np.asarray(log_probabilities(model, facts, delta)).argmax(-1)
        right.append(((most == labels) | (labels == IGNORED)).reshape(3, -1).all(1))
    enough = np.cumsum(right, 0) > said
    expected = np.where(enough.any(0), enough.argmax(0), last)
    assert (expected < last).any()
    np.testing.assert_array_equal(found.updates, expected)


def test_the_output_of_a_network_with_biases_stacked_or_not(rng):
    config = GPT2
    params = random_params(config)
    down = params["layers"]["1"]["mlp"]["down"]
    assert np.asarray(down["bias"]).any()
    keys = jnp.asarray(rng.normal(size=(3, config.mlp_width)), jnp.float32)
    expected = np.asarray(keys) @ np.asarray(down["kernel"]) + np.asarray(down["bias"])
    for given in (params, stack_layers(params)):
        found = mlp_output(given, 1, keys)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
