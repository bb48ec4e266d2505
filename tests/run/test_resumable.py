"""Chunks with checkpoints: stopped anywhere and resumed, the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.run.resumable import run_chunks


def start():
    return {"key": jax.random.key(3), "sum": jnp.zeros(2)}


RECORD = {"value": np.zeros((7, 2), np.float32)}


def advance(state, done, steps):
    def step(state, index):
        drawn = jax.random.normal(jax.random.fold_in(state["key"], index), (2,))
        return {"key": state["key"], "sum": state["sum"] + drawn}, drawn

    state, values = jax.lax.scan(step, state, done + jnp.arange(steps))
    return state, {"value": values}


def test_record_and_reports():
    seen = []
    found = run_chunks(
        start(), RECORD, advance, chunk=3, report=lambda *args: seen.append((*args[:2], args[2]))
    )
    assert [entry[:2] for entry in seen] == [(3, 7), (6, 7), (7, 7)]
    np.testing.assert_array_equal(
        np.concatenate([entry[2]["value"] for entry in seen]), found.record["value"]
    )
    np.testing.assert_allclose(found.record["value"].sum(0), found.state["sum"], rtol=1e-5)
    assert not RECORD["value"].any() and found.seconds > 0


def test_stopped_and_resumed(tmp_path):
    whole = run_chunks(start(), RECORD, advance, chunk=2)

    def stop(done, total, record):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_chunks(
            start(), RECORD, advance, chunk=2, folder=tmp_path / "a", save_every=0.0, report=stop
        )
    calls = []

    def counted(state, done, steps):
        calls.append(done)
        return advance(state, done, steps)

    found = run_chunks(start(), RECORD, counted, chunk=2, folder=tmp_path / "a")
    assert calls == [2, 4, 6]  # the report came before the checkpoint
    np.testing.assert_array_equal(found.record["value"], whole.record["value"])
    np.testing.assert_array_equal(found.state["sum"], whole.state["sum"])
    calls.clear()
    run_chunks(start(), RECORD, counted, chunk=2, folder=tmp_path / "a")
    assert not calls


def test_a_checkpoint_of_something_else_is_not_taken(tmp_path):
    run_chunks(start(), RECORD, advance, chunk=7, folder=tmp_path / "a")
    other = {"value": np.zeros((9, 2), np.float32)}
    with pytest.raises(ValueError, match="--run-dir"):
        run_chunks(start(), other, advance, chunk=3, folder=tmp_path / "a")
