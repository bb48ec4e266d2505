"""The contestants do what they are timed for. Nothing here looks at the time."""

import json

import numpy as np
import pytest

from benchmarks.lifelong import (
    Config,
    candidate_contestants,
    main,
    shift_contestants,
    step_memory,
    target,
)

TINY = Config(rounds=1, size=32, tokens=5, memories=(2, 3), edits=20, batch_size=5)


def test_both_formulations_make_the_same_change():
    timed = shift_contestants(TINY)
    thin, dense = timed["push_through"].run(), timed["released"].run()
    assert thin.keys.shape == thin.values.shape == (5, 32)
    np.testing.assert_allclose(thin.dense(), dense, atol=1e-5)


@pytest.mark.slow
def test_a_change_beside_the_kernel_gives_the_same_answers():
    timed = candidate_contestants(TINY)
    logits, restored = timed["written"].run()
    np.testing.assert_allclose(timed["beside"].run(), logits, rtol=1e-3, atol=1e-3)
    (kernels,) = timed["written"].run.args
    for name, kernel in kernels.items():
        np.testing.assert_allclose(restored[name], kernel, atol=1e-5)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_batches_in_memory():
    assert step_memory(TINY, 32) < 1.1 * step_memory(TINY, 2)


def test_targets_know_their_side():
    assert target("x", 3.0, at_least=2.0)["passed"] and not target("x", 1.0, at_least=2.0)["passed"]
    assert target("x", 1.0, at_most=2.0)["passed"] and not target("x", 3.0, at_most=2.0)["passed"]


@pytest.mark.slow
def test_main_writes_its_verdict(tmp_path, capsys):
    main(Config(**{**vars(TINY), "output": tmp_path}))
    (path,) = tmp_path.glob("lifelong-*.json")
    results = json.loads(path.read_text())
    assert {line["name"] for line in results["targets"]} == {
        "change_speed_up",
        "memory_growth",
        "stream_seconds",
    }
    assert "stream_seconds" in capsys.readouterr().out
