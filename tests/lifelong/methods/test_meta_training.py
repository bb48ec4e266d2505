"""Training of learned editors."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import (
    MetaTraining,
    start_training,
    train_steps,
)
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.stream import train_in_memory
from tests.lifelong.test_stream import assert_same

NETWORK = HypernetworkConfig(rank=4, num_blocks=2, edit_lr=0.05)
EDITOR = HypernetworkEditor("malmen", rows=6, network=NETWORK)
TRAINING = MetaTraining(Objective(memory=2), updates=8, learning_rate=1e-2)
KEY = jax.random.key(0)


@pytest.mark.slow
def test_an_interrupted_training_is_an_uninterrupted_one(model, stream):
    routed = replace(EDITOR, routing=Routing())  # with draws of its own

    def run(cuts):
        state, losses = start_training(routed, TRAINING, model, KEY), []
        for steps in cuts:
            state, metrics = train_steps(routed, TRAINING, model, state, stream, steps)
            losses.append(metrics["loss"])
        return state, jnp.concatenate(losses)

    assert_same(run([3]), run([1, 1, 1]))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["malmen", pytest.param("mend", marks=pytest.mark.slow)])
def test_training_lowers_the_loss(model, stream, rule):
    editor = replace(EDITOR, rule=rule, rows=6 if rule == "malmen" else 24)
    training = replace(TRAINING, objective=Objective(memory=1), updates=40)
    losses = []
    loop = partial(train_in_memory, report=lambda *seen: losses.append(seen[2]["loss"]))
    replace(editor, training=training).train(model, stream, KEY, loop)
    loss = np.concatenate(losses)
    length = stream.subject_last.shape[0]
    assert loss[-length:].mean() < 0.8 * loss[:length].mean()


@pytest.mark.slow
def test_the_gradient_is_that_of_the_reward(model, stream):
    """Finite differences of the loss of one step along a random direction of the parameters."""
    state = start_training(EDITOR, TRAINING, model, KEY)
    batch = jax.tree.map(lambda leaf: leaf[1], stream)
    rows, own = EDITOR.observe(model, model.kernels(), state.editor, batch)

    @jax.jit
    def loss(networks):
        changes = EDITOR.propose(model, networks, own.statistics, rows)
        step = jnp.int32(1)
        return trajectory_loss(model, model.kernels(), changes, stream, step, TRAINING.objective)

    networks = jax.tree.map(lambda w: w + 0.05 * jnp.sign(w) + 0.02, own.learned.networks)
    gradient = jax.grad(loss)(networks)
    leaves, treedef = jax.tree.flatten(networks)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    way = treedef.unflatten(
        [jax.random.normal(k, w.shape) * 0.1 for k, w in zip(keys, leaves, strict=True)]
    )
    expected = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, way)))
    step = 1e-3
    up, down = (
        loss(jax.tree.map(lambda w, d, s=s: w + s * d, networks, way)) for s in (step, -step)
    )
    np.testing.assert_allclose((up - down) / (2 * step), expected, rtol=0.05, atol=1e-2)


@pytest.mark.slow
def test_updates_come_when_they_are_due_and_are_as_long_as_told(model, stream):
    training = replace(TRAINING, update_every=2, rate_step=0.1)
    state = start_training(EDITOR, training, model, KEY)
    fresh = jax.tree.map(np.asarray, state.editor.learned.networks)
    seen = []
    for _ in range(4):
        state, _ = train_steps(EDITOR, training, model, state, stream, 1)
        seen.append((state.editor.learned.networks, optax.tree.norm(state.gradients)))
        seen[-1] = jax.tree.map(np.asarray, seen[-1])
    changed = [
        any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), a[0], b[0])))
        for a, b in pairwise(seen)
    ]
    assert changed == [True, False, True]
    assert [norm > 0 for _, norm in seen] == [True, False, True, False]
    # Adam's first step is its learning rate in every parameter that has a gradient.
    for group, network in fresh.items():
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), seen[1][0][group], network)
        np.testing.assert_allclose(moved.lr, 0.1 * NETWORK.edit_lr, rtol=1e-3)
        np.testing.assert_allclose(moved.lamda, 0.1, rtol=1e-3)
        np.testing.assert_allclose(moved.blocks.bias, TRAINING.learning_rate, rtol=1e-3)


@pytest.mark.slow
def test_trajectories_grow_to_the_whole_stream(model, stream):
    """Eight steps of growth over a stream of four batches, by hand."""
    training = replace(TRAINING, growth=0.5, updates=16)
    state = start_training(EDITOR, training, model, KEY)
    lengths, firsts = [], []
    for step in range(12):
        lengths.append(min(1 + step * 4 // 8, 4))
        state, _ = train_steps(EDITOR, training, model, state, stream, 1)
        firsts.append(int(state.first))
    assert lengths == [1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4, 4]
    assert firsts == [0, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0]


@pytest.mark.slow
def test_edits_are_kept_along_a_trajectory_or_not_at_all(model, stream):
    """Each state holds the kernels after its step, so the change of a step is known."""

    def courses(keep):
        training = replace(TRAINING, keep_edits=keep, updates=5, learning_rate=0.0)
        state = start_training(EDITOR, training, model, KEY)
        kernels = [np.asarray(state.kernels[name])]
        for _ in range(stream.subject_last.shape[0] + 1):
            state, _ = train_steps(EDITOR, training, model, state, stream, 1)
            kernels.append(np.asarray(state.kernels[name]))
        return kernels

    name = model.modules[0]
    original = np.asarray(model.kernels()[name])
    kept, dropped = courses(True), courses(False)
    np.testing.assert_array_equal(kept[1], dropped[1])  # the first step knows no other
    assert np.linalg.norm(kept[-2] - original) > 1.2 * np.linalg.norm(kept[1] - original)
    # A new trajectory starts from the unedited network, on the facts of the first step.
    assert np.linalg.norm(kept[-1] - kept[-2]) > np.linalg.norm(kept[-1] - original) > 0
    assert all(np.linalg.norm(w - original) < np.linalg.norm(kept[-2] - original) for w in dropped)


def test_what_does_not_fit_is_refused(model, stream):
    tight = replace(EDITOR, rows=1)
    state = start_training(tight, TRAINING, model, KEY)
    with pytest.raises(ValueError, match=r"rows=1: a batch has \d answer tokens"):
        train_steps(tight, TRAINING, model, state, stream, 1)
    labels = jnp.where(stream.locality.scored, 23, -100)
    unknown = stream.replace(locality=stream.locality.replace(labels=labels))
    with pytest.raises(ValueError, match=r"stream\.locality holds the token 23, and the network"):
        train_steps(EDITOR, TRAINING, model, state, unknown, 1)
