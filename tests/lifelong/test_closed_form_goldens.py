"""Closed-form editors against arrays of the released code (``goldens/README.md``), in float64."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values
from modeledit_jax.lifelong.key_statistics import (
    JITTER,
    covariance_preconditioner,
    null_space,
    null_space_preconditioner,
)
from modeledit_jax.lifelong.low_rank import preconditioned_shift
from modeledit_jax.lifelong.methods.closed_form import ClosedForm, ClosedFormState
from modeledit_jax.lifelong.methods.restraint import Rect, largest_beside, shrink
from modeledit_jax.lifelong.model import commit, dense_change
from modeledit_jax.lifelong.stream import edit_stream, start_stream
from tests.lifelong.golden import load, relative_error
from tests.lifelong.golden_model import context_facts, context_rows, sharp_model

MODULES = {1: "layers/1/mlp/down", 2: "layers/2/mlp/down"}
THRESHOLD = 2e-2
"""Of the eigenvalues that AlphaEdit's released code takes for nothing."""

SETTINGS = {
    "clamped": ValueSearch(learning_rate=0.1),
    "wide": ValueSearch(learning_rate=0.5, clamp=10.0, decay=1e-3, essence=1e-3),
}
ROME = ValueSearch(learning_rate=0.5, clamp=4.0, decay=1e-3, added_to="output")
KEY = jax.random.key(0)

find = jax.jit(edit_values, static_argnames=("layer", "search", "answer"))
edit = jax.jit(ClosedForm.edit, static_argnums=0)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def covariance(layer, ridge=0.0):
    return load("closed_form")[f"covariance/{layer}"].astype(np.float64) + ridge * np.eye(48)


def inverse(layer, weight):
    """H of MEMIT, with the jitter of this project taken out beforehand."""
    matrix = covariance(layer, 1e-3)
    raw = matrix - JITTER / (1 + JITTER) * np.trace(matrix) / 48 * np.eye(48)
    return jnp.asarray(covariance_preconditioner(raw, weight))


def energy(matrix):
    """The share of the trace whose complement has the directions below `THRESHOLD`."""
    values = np.clip(np.linalg.eigvalsh(matrix), 0, None)
    share, rank = np.cumsum(values) / values.sum(), (values < THRESHOLD).sum()
    return 1 - (share[rank - 1] + share[rank]) / 2


def stream(batches=3):
    """The facts of the goldens, with a row behind each batch that does not count."""
    arrays = load("closed_form")
    parts = [context_facts(context_rows(arrays, f"batch/{t}/"), 1) for t in range(batches)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def edited(editor, preconditioners, batches=3):
    """Kernels after each batch of facts, the unedited ones first, and the editor's state."""
    model, facts = sharp_model(MODULES.values()), stream(batches)
    now = start_stream(model, ClosedFormState(preconditioners), KEY, np.float64)
    kernels = [jax.tree.map(np.asarray, now.kernels)]
    for t in range(batches):
        now, _ = edit_stream(editor, model, now, jax.tree.map(lambda x, t=t: x[t : t + 1], facts))
        kernels.append(jax.tree.map(np.asarray, now.kernels))
    return kernels, now.editor


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps"), [("clamped", 1), ("wide", 2), ("clamped", 24), ("wide", 24)]
)
def test_values(name, steps):
    """The third fact of the second case ends early, all of the first are clamped."""
    golden = load("values")
    model, facts = sharp_model(MODULES.values()), context_rows(golden)
    search = replace(SETTINGS[name], steps=steps + 1)
    found = find(model, model.kernels(), facts, np.ones(3, bool), 2, search, 3)
    assert relative_error(found.delta, golden[f"{name}/delta/{steps}"]) <= 8e-7
    losses = golden[f"{name}/losses"][:, :, 0]
    evaluations = np.minimum((~np.isnan(losses)).sum(1), steps + 1)
    assert found.updates.tolist() == (evaluations - 1).tolist()
    np.testing.assert_allclose(found.loss, losses[np.arange(3), evaluations - 1], rtol=1e-6)
    sizes = np.linalg.norm(golden[f"{name}/target_init"], axis=1)
    if name == "clamped" and steps == 24:
        np.testing.assert_allclose(np.linalg.norm(found.delta, axis=1), 0.75 * sizes, rtol=1e-6)
    assert (evaluations[2] == 6) == (name == "wide" and steps == 24)


@pytest.mark.slow
def test_values_in_float32():
    golden = load("values")
    model, facts = sharp_model(MODULES.values(), np.float32), context_rows(golden)
    search = replace(SETTINGS["clamped"], steps=25)
    found = find(model, model.kernels(), facts, np.ones(3, bool), 2, search, 3)
    assert found.delta.dtype == np.float32
    assert relative_error(found.delta, golden["clamped/delta/24"]) <= 5e-5


def test_the_solve_of_memit_and_emmet():
    """From the released keys and values, layer after layer and batch after batch."""
    memit, emmet = load("memit"), load("emmet")
    for t in range(3):
        for index, layer in enumerate(MODULES):
            keys = jnp.asarray(memit[f"{t}/keys/{layer}"])
            rest = jnp.asarray(memit[f"{t}/z"] - memit[f"{t}/z_now/{layer}"]) / (2 - index)
            found = preconditioned_shift(keys, rest, inverse(layer, 5.0), 1.0)
            assert relative_error(found.dense(), memit[f"{t}/delta/{layer}"]) <= 5e-6
            if t == index == 0:  # the same facts, values and keys; λ is that of the ridge times C
                same = preconditioned_shift(keys, rest, inverse(layer, 0.1 * 4), 1.0)
                assert relative_error(same.dense(), emmet["delta/1"]) <= 1e-6


@pytest.mark.slow
def test_memit():
    golden = load("memit")
    editor = ClosedForm(weight=5.0, values=SETTINGS["clamped"], answer=3)
    kernels, _ = edited(editor, {name: inverse(layer, 5.0) for layer, name in MODULES.items()})
    for t in range(3):
        for layer, name in MODULES.items():
            moved = kernels[t + 1][name] - kernels[t][name]
            assert relative_error(moved, golden[f"{t}/delta/{layer}"]) <= 5e-6


@pytest.mark.slow
def test_emmet():
    golden = load("emmet")
    editor = ClosedForm(weight=0.4, values=SETTINGS["clamped"], answer=3)
    state = {name: inverse(layer, 0.1 * 4) for layer, name in MODULES.items()}
    (before, after), _ = edited(editor, state, batches=1)
    for layer, name in MODULES.items():
        assert relative_error(after[name] - before[name], golden[f"delta/{layer}"]) <= 1e-6


def test_the_projector_of_alphaedit():
    golden = load("alphaedit")
    for layer in MODULES:
        matrix = covariance(layer)
        assert null_space(matrix, energy(matrix)).shape == (48, 36)
        found = 2.0 * null_space_preconditioner(matrix, energy(matrix), 2.0)
        assert relative_error(found, golden[f"projector/{layer}"]) <= 1.4e-6


@pytest.mark.slow
def test_alphaedit():
    golden = load("alphaedit")
    editor = ClosedForm("null-space", history=True, values=SETTINGS["clamped"], answer=3)
    state = {
        name: jnp.asarray(null_space_preconditioner(matrix, energy(matrix), 2.0))
        for name, matrix in ((name, covariance(layer)) for layer, name in MODULES.items())
    }
    kernels, state = edited(editor, state)
    for layer, name in MODULES.items():
        for t in range(3):
            moved = kernels[t + 1][name] - kernels[t][name]
            assert relative_error(moved, golden[f"{t}/delta/{layer}"]) <= 1.4e-6
        assert relative_error(kernels[-1][name], golden[f"final/{layer}"]) <= 1e-6
        # The released code keeps KᵀK of all batches where H is kept here.
        projector, cache = (golden[f"{part}/{layer}"] for part in ("projector", "cache"))
        past = projector @ cache.astype(np.float64) @ projector
        expected = np.linalg.solve(past + 2 * np.eye(48), projector)
        assert relative_error(state.preconditioners[name], expected) <= 1e-5


@pytest.mark.slow
def test_rect():
    golden = load("rect")
    base = ClosedForm(weight=5.0, values=SETTINGS["clamped"], answer=3)
    state = {name: inverse(layer, 5.0) for layer, name in MODULES.items()}
    (before, after), _ = edited(Rect(base, keep=0.4), state, batches=1)
    for layer, name in MODULES.items():
        moved = after[name] - before[name]
        np.testing.assert_array_equal(moved != 0, golden[f"mask/{layer}"])
        assert relative_error(moved, golden[f"delta/{layer}"]) <= 5e-6


def test_the_entries_that_rect_keeps():
    """Of the released dense change, rounded to float32: no more than ties at the bound differ."""
    golden, dense = load("rect"), load("memit")
    model = sharp_model(MODULES.values())
    for layer, name in MODULES.items():
        delta = jnp.asarray(dense[f"0/delta/{layer}"], jnp.float64)
        kept = np.asarray(largest_beside(delta, model.kernels()[name], 0.4))
        assert kept.sum() == golden[f"mask/{layer}"].sum() == 48 * 32 - 921 + 1
        assert (kept != golden[f"mask/{layer}"]).sum() <= 2


def test_the_solve_of_rome():
    """Its direction is that of the mean key, its length that of the bare one."""
    golden = load("rome")
    bare, mean = (jnp.asarray(golden[name])[None] for name in ("bare_key", "mean/key"))
    change = jnp.asarray(golden["value"] - golden["bare_output"])[None]
    matrix = inverse(1, 1.0)
    direction = np.asarray(mean @ matrix)[0]
    assert relative_error(direction / np.linalg.norm(direction), golden["u"]) <= 1e-6
    released = preconditioned_shift(mean, change, matrix, 0.0, asked=bare)
    assert relative_error(released.dense(), golden["released/delta"]) <= 1e-6
    alone = preconditioned_shift(bare, change, matrix, 0.0)
    assert relative_error(alone.dense(), golden["bare/delta"]) <= 1e-6
    # The repaired code asks the mean key for the value of the bare row.
    there = change + golden["bare_output"] - golden["mean/output"]
    repaired = preconditioned_shift(mean, there, matrix, 0.0)
    assert relative_error(repaired.dense(), golden["mean/delta"]) <= 1e-6
    assert relative_error(golden["released/delta"], golden["mean/delta"]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("key", ["released", "bare"])
def test_rome(key):
    golden = load("rome")
    model, facts = sharp_model([MODULES[1]]), context_facts(context_rows(golden))
    editor = ClosedForm(
        weight=1.0, ridge=0.0, one_by_one=True, key=key, layers=(1,), values=ROME, answer=3
    )
    state = {MODULES[1]: inverse(1, 1.0)}
    changes, _ = edit(editor, model, model.kernels(), ClosedFormState(state), facts, KEY)
    found = dense_change(changes[MODULES[1]])
    assert relative_error(found, golden[f"{key}/delta"]) <= 1e-6


def test_prune():
    golden = load("prune")
    kernel, delta = jnp.asarray(golden["kernel"]), jnp.asarray(golden["delta"])
    bound = float(np.linalg.norm(kernel, 2))
    assert (np.linalg.svd(delta, compute_uv=False) > bound).sum() == 3
    for name, base in (("log", np.e), ("log2", 2.0)):
        found = kernel + shrink(delta, bound, base)
        assert relative_error(found, golden[f"{name}/final"]) <= 1e-9
    # AlphaEdit's port adds it to what is edited already.
    port = commit({"w": kernel + delta}, {})["w"] + shrink(delta, bound, np.e)
    assert relative_error(port, golden["port/final"]) <= 1e-6
    assert relative_error(port, golden["log/final"]) > 0.5
