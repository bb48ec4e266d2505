"""How a router of layers learns: rewards by hand, bandits whose best choice is known, resumption."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.edit_values import ValueSearch
from modeledit_jax.lifelong.methods import router_training
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.routed_closed_form import RoutedClosedForm
from modeledit_jax.lifelong.methods.router import RouterConfig
from modeledit_jax.lifelong.methods.router_training import RouterTraining, train_router
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.model import commit
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.stream import train_in_memory
from tests.lifelong.test_stream import assert_same

KEY = jax.random.key(0)
VALUES = ValueSearch(steps=4, learning_rate=0.3)
EDITOR = ClosedForm(
    "nothing", size_penalty=0.1, history=True, contexts=0, values=VALUES, source="unedited"
)
ROUTING = Routing(router=RouterConfig(hidden_size=4))
JUDGED = Objective(memory=2, reference="original", size=0.0)
TRAINING = RouterTraining(JUDGED, updates=6, learning_rate=1e-2)
LOW, TOP = "layers/1/mlp/down", "layers/2/mlp/down"


def noted(found, chunk=20):
    """The loop that keeps nothing, but for what steps report."""

    def loop(start, advance, steps, *, metrics=(), chunk=chunk, **_):
        def report(done, total, numbers):
            for name, values in numbers.items():
                found.setdefault(name, []).extend(np.asarray(values).tolist())

        return train_in_memory(start, advance, steps, metrics=metrics, chunk=chunk, report=report)

    return loop


def test_a_reward_is_what_the_choice_does_better_than_all_layers(deep, facts):
    """Steps along a trajectory that begins anew, with kernels that are written."""
    editor = EDITOR.sized_for(deep, (facts,))
    stream = jax.tree.map(lambda leaf: leaf[:2], facts)
    start, found, seen = editor.init(deep, KEY), {}, []
    training = replace(TRAINING, updates=3)
    draws = jax.jit(router_training._step, static_argnums=(0, 1, 2))
    state = router_training._start(editor, ROUTING, training, deep, start, KEY)
    values = jax.jit(editor.find_ahead)
    stream = stream.replace(values=jnp.stack([
        values(deep, jax.tree.map(lambda leaf, t=t: leaf[t], stream)) for t in range(2)
    ]))  # fmt: skip
    solve = jax.jit(lambda *args: editor.solve(editor.target(*args[:4]), args[2], args[4]))
    judge = jax.jit(
        lambda kernels, stream, place: trajectory_loss(deep, kernels, {}, stream, place, JUDGED)
    )
    for step in range(3):
        place, before = step % 2, state
        state, numbers = draws(editor, ROUTING, training, deep, stream, start, state)
        kernels, own = (deep.kernels(), start) if place == 0 else (before.kernels, before.editor)
        batch = jax.tree.map(lambda leaf, t=place: leaf[t], stream)
        # One layer of two was drawn: which, is known from what was written.
        mask = jnp.array([float(np.any(state.kernels[n] != kernels[n])) for n in (LOW, TOP)])
        assert mask.sum() == numbers["layers"] == 1
        changes, _ = solve(deep, kernels, own, batch, mask)
        every, _ = solve(deep, kernels, own, batch, jnp.ones(2))
        losses = [judge(commit(kernels, made), stream, place) for made in (changes, every)]
        np.testing.assert_allclose(numbers["loss"], losses[0], rtol=1e-3)
        np.testing.assert_allclose(numbers["advantage"], losses[1] - losses[0], atol=2e-3)
        seen.append(float(numbers["advantage"]))
    level = 0.9 * (0.9 * seen[0] + 0.1 * seen[1]) + 0.1 * seen[2]
    np.testing.assert_allclose(state.level, level, rtol=1e-4)
    # By the whole training, which finds the values itself.
    train_router(editor, ROUTING, training, deep, facts_of(stream), start, KEY, noted(found))
    np.testing.assert_allclose(found["advantage"], seen, atol=1e-4)


def facts_of(stream):
    return stream.replace(values=None)
