"""How a router of layers learns: rewards by hand, bandits of known best choice, resumption."""

import itertools
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
from modeledit_jax.memory import tree_bytes
from modeledit_jax.run import resumable
from modeledit_jax.run.resumable import run_chunks
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


@pytest.mark.slow
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
    train_router(editor, ROUTING, training, deep, stream, start, KEY, noted(found))
    np.testing.assert_allclose(found["advantage"], seen, atol=1e-4)


BOLD = RouterTraining(
    Objective(memory=1, locality=0.0, size=0.0), updates=80, learning_rate=3e-2, smoothing=0.8
)


@pytest.mark.slow
@pytest.mark.parametrize("best", [TOP, LOW])
def test_of_two_layers_the_better_one_is_found(deep, facts, best):
    """All that the lower layer could change is protected, so its change is zero. It takes the upper
    one to learn anything; where nothing counts but the size of changes, it is the wrong one, and
    one layer is better than two."""
    learns_count, objective = best == LOW, BOLD.objective
    routing = replace(ROUTING, router=replace(ROUTING.router, learn_count=learns_count))
    if learns_count:
        objective = replace(objective, size=100.0)
    training = replace(BOLD, objective=objective)
    stream = facts.replace(rephrase=facts.edit)
    editor = EDITOR.sized_for(deep, (stream,))
    start = editor.init(deep, KEY)
    protected = start.preconditioners | {LOW: jnp.zeros_like(start.preconditioners[LOW])}
    start, found = replace(start, preconditioners=protected), {}
    learned = train_router(editor, routing, training, deep, stream, start, KEY, noted(found))
    untrained = router_training.init_learned(editor, routing, deep, KEY)

    @jax.jit
    def probabilities(learned, batch):
        """Of the better layer as the first one, and of one layer alone."""
        target = editor.target(deep, deep.kernels(), start, batch)
        model = router_training.routed_model(editor, deep)
        rows = target.rows()
        counted = learned.after(model, rows)
        policy = routing.policy(learned.router, model, counted.statistics, rows)
        counts = jnp.zeros(2) if policy.count_logits is None else policy.count_logits
        return jax.nn.softmax(policy.logits)[(LOW, TOP).index(best)], jax.nn.softmax(counts)[0]

    batch = jax.tree.map(lambda leaf: leaf[1], stream)
    before, after = probabilities(untrained, batch), probabilities(learned, batch)
    assert before[0] < 0.8 and after[0] > 0.95, (before, after)
    if learns_count:
        assert before[1] < 0.8 and after[1] > 0.95, (before, after)
        assert np.mean(found["layers"][-20:]) < 1.2 < np.mean(found["layers"][:20])
    assert np.mean(found["loss"][-20:]) < np.mean(found["loss"][:20])


@pytest.mark.slow
def test_an_interrupted_training_goes_on_with_the_same_bits(deep, facts, tmp_path, monkeypatch):
    editor = EDITOR.sized_for(deep, (facts,))
    given = (editor, ROUTING, TRAINING, deep, facts, editor.init(deep, KEY), KEY)

    def saved(folder):
        calls = itertools.count()

        def loop(start, advance, steps, *, metrics=(), chunk=20):
            def recorded(state, done, size):
                state, found = advance(state, done, size)
                return state, {name: found[name] for name in metrics}

            record = {name: np.zeros(steps, np.float32) for name in metrics}
            place = folder / str(next(calls))
            return run_chunks(start, record, recorded, total=steps, chunk=2, folder=place).state

        return loop

    whole = train_router(*given, saved(tmp_path / "whole"))
    real, saves = resumable.Checkpoints.save, []

    def save_and_stop(self, step, tree):
        real(self, step, tree)
        saves.append(step)
        if len(saves) in (1, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(resumable.Checkpoints, "save", save_and_stop)
    monkeypatch.setattr(resumable, "SAVE_EVERY", 0.0)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_router(*given, saved(tmp_path / "run"))
    assert_same(whole, train_router(*given, saved(tmp_path / "run")))
    assert saves == [2, 4, 2, 4, 6]  # the values of four batches, and six steps
    assert_same(whole, train_router(*given, noted({})))  # in other parts


def test_training_is_planned_for_the_memory(deep, facts, unchecked_annotations):
    """More than the state that it holds twice, and more where more is judged."""
    method = RoutedClosedForm(EDITOR.sized_for(deep, (facts,)), ROUTING, TRAINING)
    stream, model = jax.eval_shape(lambda *given: given, facts, deep)
    needed = method.training_bytes(model, stream)
    start = router_training._start(
        method.editor, ROUTING, TRAINING, deep, method.editor.init(deep, KEY), KEY
    )
    assert needed > tree_bytes(start)
    assert replace(method, routing=Routing("random")).training_bytes(model, stream) == 0


def test_what_makes_no_sense_is_refused():
    for name, wrong in (("updates", 0), ("learning_rate", 0.0), ("smoothing", 1.0)):
        with pytest.raises(ValueError, match=f"{name}={wrong}: give"):
            RouterTraining(**{name: wrong})
