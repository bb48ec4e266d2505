"""The contestants reach the same end. Nothing here looks at the time."""

import json

import numpy as np
import pytest

from benchmarks.closed_form import Config, change_contestants, main, value_contestants

SMALL = Config(rounds=1, size=32, facts=3, length=6, steps=4, tiny=True)


def test_both_formulations_make_the_same_change_and_remember_the_same():
    timed = change_contestants(SMALL)
    expected = np.asarray(timed["released"].run(), np.float64)
    assert abs(expected).max() > 0.01 and not expected[::2].any()  # half is protected
    np.testing.assert_allclose(timed["push_through"].run().dense(), expected, atol=1e-5)
    update, after = timed["push_through_and_memory"].run()
    change, seen = timed["released_and_memory"].run()
    np.testing.assert_allclose(update.dense(), expected, atol=1e-5)
    np.testing.assert_allclose(change, expected, atol=1e-5)
    # (H⁻¹ + KᵀK)⁻¹ where H = P / ridge has an inverse: among the directions that are free.
    free = np.s_[1::2]
    inverse = 10.0 * np.eye(16) + np.asarray(seen, np.float64)[free, free]
    np.testing.assert_allclose(np.asarray(after)[free, free], np.linalg.inv(inverse), atol=1e-5)


@pytest.mark.slow
def test_a_batch_has_the_values_of_its_facts():
    timed = value_contestants(SMALL)
    together = np.asarray(timed["together"].run())
    assert together.shape == (3, 16) and abs(together).max() > 1e-3
    np.testing.assert_allclose(together, timed["one_by_one"].run(), atol=1e-5)


@pytest.mark.slow
def test_main_writes_its_verdict(tmp_path, capsys):
    path = main(Config(**{**vars(SMALL), "output": tmp_path}))
    results = json.loads(path.read_text())
    assert [line["name"] for line in results["targets"]] == [
        "change_speed_up", "change_and_memory_speed_up", "values_speed_up",
    ]  # fmt: skip
    assert set(results["per_second"]) == {
        "push_through", "released", "push_through_and_memory", "released_and_memory", "together",
        "one_by_one",
    }  # fmt: skip
    assert "values_speed_up" in capsys.readouterr().out
