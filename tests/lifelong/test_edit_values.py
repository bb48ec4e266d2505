"""The search for what a layer should say about a subject."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.tokens import IGNORED
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values

LAYER = 0
SUBJECT = np.array([1, 0, 1], np.int32)
REAL = np.array([True, True, False])

find = jax.jit(edit_values, static_argnames=("layer", "search", "answer"))


def logits(model, batch, subject, delta):
    """The whole network, with δ added to what the MLP says at the subjects."""
    tap = jnp.zeros((*batch.tokens.shape, model.config.width))
    tap = tap.at[jnp.arange(len(delta)), subject].set(delta)
    hooks = {f"layers/{LAYER}/mlp/down": Hook(tap=tap)}
    return apply(model.config, model.params, batch.tokens, batch.attention, hooks)[0]


def losses(model, batch, search, delta):
    """The loss of every row, by loops."""
    rows = []
    before = jax.nn.log_softmax(logits(model, batch, SUBJECT, jnp.zeros_like(delta)))
    after = jax.nn.log_softmax(logits(model, batch, SUBJECT, delta))
    name = f"layers/{LAYER}"
    stream = apply(model.config, model.params, batch.tokens, batch.attention, capture=(name,))[1]
    for row, place in enumerate(SUBJECT):
        scored = np.flatnonzero(np.asarray(batch.labels)[row] != IGNORED)
        likely = [after[row, spot, batch.labels[row, spot]] for spot in scored]
        now, then = after[row, place], before[row, place]
        size = jnp.linalg.norm(stream[name][row, place])
        norm = jnp.sqrt(jnp.square(delta[row]).sum() + 1e-30)
        rows.append(
            -sum(likely) / len(likely)
            + search.essence * (jnp.exp(now) * (now - then)).sum()
            + search.decay * norm / size**2
        )
    return jnp.stack(rows)


def adam_by_hand(model, batch, search):
    """Released order: judge, step, clamp; every row alone."""
    name = f"layers/{LAYER}"
    stream = apply(model.config, model.params, batch.tokens, batch.attention, capture=(name,))[1]
    delta = jnp.zeros((len(SUBJECT), model.config.width))
    slope = jax.jit(jax.grad(lambda d: losses(model, batch, search, d).sum()))
    value = jax.jit(partial(losses, model, batch, search))
    first, second = np.zeros(delta.shape), np.zeros(delta.shape)
    done = ~REAL
    for step in range(search.steps):
        done = done | (np.asarray(value(delta)) < search.floor)
        if done.all() or step == search.steps - 1:
            break
        gradient = np.asarray(slope(delta))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        moved = np.asarray(delta) - search.learning_rate * first / (1 - 0.9 ** (step + 1)) / scale
        for row, place in enumerate(SUBJECT):
            bound = search.clamp * np.linalg.norm(stream[name][row, place])
            moved[row] *= min(1.0, bound / np.linalg.norm(moved[row]))
        delta = jnp.where(done[:, None], delta, moved)
    return delta


@pytest.mark.slow
@pytest.mark.parametrize("steps", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_values_are_those_of_a_plain_loop_over_the_whole_network(model, batch, steps):
    # Weights that count from the second step on; at the start both slopes are zero.
    search = ValueSearch(steps=steps, learning_rate=0.05, essence=2.0, decay=20.0)
    found = find(model, model.kernels(), batch.edit, SUBJECT, REAL, LAYER, search, 2)
    expected = adam_by_hand(model, batch.edit, search)
    # At zero the decay has no slope here, where that of the reference's square root is tiny.
    np.testing.assert_allclose(found.delta, expected, rtol=2e-3, atol=2e-4)
    assert found.updates.tolist() == [steps - 1, steps - 1, 0]
    assert (found.delta[2] == 0).all()


@pytest.mark.slow
def test_every_fact_ends_on_its_own_and_stays_in_its_ball(model, batch):
    search = ValueSearch(steps=1, learning_rate=0.1, clamp=0.5)
    both = np.array([True, True, True])
    first = find(model, model.kernels(), batch.edit, SUBJECT, both, LAYER, search, 2)
    assert not first.delta.any()
    search = replace(search, steps=40, floor=float(np.sort(first.loss)[1]))  # one is below it
    found = find(model, model.kernels(), batch.edit, SUBJECT, both, LAYER, search, 2)
    _, seen = apply(
        model.config, model.params, batch.edit.tokens, batch.edit.attention, capture=("layers/0",)
    )
    bound = 0.5 * np.linalg.norm(seen["layers/0"][np.arange(3), SUBJECT], axis=1)
    assert (np.linalg.norm(found.delta, axis=1) <= bound * (1 + 1e-5)).all()
    assert ((found.loss < search.floor) | (found.updates == 39)).all()
    assert (found.updates == 0).sum() == 1 and len(set(found.updates.tolist())) == 3
    alone = [
        find(model, model.kernels(), batch.edit, SUBJECT, np.arange(3) == row, LAYER, search, 2)
        for row in range(3)
    ]
    for row, one in enumerate(alone):
        np.testing.assert_allclose(one.delta[row], found.delta[row], rtol=1e-3, atol=1e-4)
        assert one.updates[row] == found.updates[row]


@pytest.mark.slow
def test_a_fact_that_is_known_is_left_alone(model, batch):
    search = ValueSearch(floor=1e9)
    found = find(model, model.kernels(), batch.edit, SUBJECT, REAL, LAYER, search)
    assert not found.delta.any() and not found.updates.any()
    assert np.isfinite(found.loss).all()


@pytest.mark.slow
def test_without_room_for_the_answer_given_all_positions_are_read(model, batch):
    search = ValueSearch(steps=3)
    data = (model, model.kernels(), batch.edit, SUBJECT, REAL, LAYER, search)
    tight, wide = find(*data, 2), find(*data)
    np.testing.assert_allclose(tight.delta, wide.delta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": 0.0}, {"clamp": -1.0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*give"):
        ValueSearch(**wrong)
