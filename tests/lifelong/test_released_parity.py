"""Rows and a whole trajectory against the arrays of the released RLEdit (``goldens/README.md``)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import (
    HypernetworkEditor,
    HyperState,
    Trainable,
)
from modeledit_jax.lifelong.methods.meta_training import MetaTraining, start_training, train_steps
from modeledit_jax.lifelong.objective import Objective
from modeledit_jax.lifelong.token_gradients import capture
from tests.lifelong.golden import hypernetwork, load, relative_error, section
from tests.lifelong.golden_model import golden_model, golden_stream, joined

SHAPES = ("32x48", "48x32")

logits_of = jax.jit(lambda model, batch: model.logits(model.kernels(), batch))


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def modules_of(arrays, prefix):
    return list(section(arrays, prefix))


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("tokens", "prefix"),
    [("answer", "ans/"), pytest.param("all", "all/", marks=pytest.mark.slow)],
)
def test_rows_of_every_layer(dtype, tokens, prefix):
    arrays = load("capture")
    model = golden_model(modules_of(arrays, "ans/u/"), dtype)
    begin = 0
    for part, size in enumerate(arrays[f"{prefix}rows"]):
        batch = joined({f"x/0/{k}": v for k, v in section(arrays, f"edit/{part}/").items()}, "x/")
        logits = logits_of(model, batch)[:, : arrays[f"edit/{part}/logits"].shape[1]]
        attended = arrays[f"edit/{part}/attention"]
        np.testing.assert_allclose(
            logits[attended], arrays[f"edit/{part}/logits"][attended], atol=5e-6
        )
        loss, rows = capture(model, model.kernels(), batch, int(size), tokens)
        np.testing.assert_allclose(loss, arrays[f"edit/{part}/loss"], rtol=1e-6)
        for name in model.modules:
            for side, ours in (("u", rows.keys), ("v", rows.values)):
                theirs = arrays[f"{prefix}{side}/{name}"][begin : begin + size]
                # Twice what CPUs leave: on a GPU, sums run in another order.
                assert np.abs(np.asarray(ours[name]) - theirs).max() <= 4e-6 * max(
                    1.0, np.abs(theirs).max()
                )
        begin += size


@pytest.mark.slow
@pytest.mark.parametrize("quirks", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_three_steps_of_training(quirks):
    arrays = load("trajectory_inputs")
    golden = load("trajectory_released" if quirks else "trajectory_corrected")
    model = golden_model(arrays["modules"])
    stream = golden_stream(arrays, 3)
    editor = HypernetworkEditor(
        "malmen",
        rows=6,
        network=HypernetworkConfig(rank=8, num_blocks=2, edit_lr=1e-2),
        minibatch=2,
        released=True,
    )
    training = MetaTraining(
        Objective(memory=2, minibatch=2, released_quirks=quirks, size_gradient=False),
        updates=1,
        update_every=None,
        learning_rate=1e-3,
        clip="sum",
    )
    state = start_training(editor, training, model, jax.random.key(0))
    networks = {shape: hypernetwork(arrays, f"theta/{shape}/") for shape in SHAPES}
    state = state.replace(
        editor=HyperState(Trainable(networks), jax.tree.map(f64, state.editor.statistics)),
        gradients=jax.tree.map(jnp.zeros_like, Trainable(networks)),
        optimizer=jax.tree.map(f64, state.optimizer),
    )
    for t in range(3):
        before = {name: np.asarray(w) for name, w in state.kernels.items()}
        state, _ = train_steps(editor, training, model, state, stream, 1)
        step = section(golden, f"step/{t}/")
        for name in model.modules:
            moved = np.asarray(state.kernels[name]) - before[name]
            assert relative_error(moved, step[f"shift/{name}"]) <= 1e-5
        for shape in SHAPES:
            own = state.editor.statistics[shape]
            assert relative_error(own.std, step[f"statistics/{shape}/std"]) <= 1e-5
        if t < 2:  # after the last step the sum has been used and is zero
            for shape in SHAPES:
                theirs = hypernetwork(golden, f"step/{t}/grad/{shape}/")
                ours = state.gradients.networks[shape]
                for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                    assert relative_error(one, other) <= 1e-4
    for shape in SHAPES:
        theirs = hypernetwork(golden, f"final/theta/{shape}/")
        ours = state.editor.learned.networks[shape]
        for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert relative_error(one, other) <= 1e-4
    for name in model.modules:
        assert relative_error(state.kernels[name], golden[f"final/weight/{name}"]) <= 1e-5


def f64(leaf):
    return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def test_the_quirk_is_no_detail():
    released, corrected = (
        section(load(f"trajectory_{kind}"), "step/1/grad/") for kind in ("released", "corrected")
    )
    worst = max(relative_error(released[key], corrected[key]) for key in released)
    assert worst > 1e-3
