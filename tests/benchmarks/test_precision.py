"""What bfloat16 changes, measured at a tiny size."""

import pytest

from benchmarks.precision import edits, reward_differences
from tests import tiny


@pytest.mark.slow
def test_differences_and_edits_are_measured():
    tasks = [tiny.task(index, base=tiny.subject(3, (12, 10))) for index in (0, 1)]
    found = reward_differences(tasks[0], ("mask",), "bfloat16", count=16)
    assert list(found) == [f"mask, spread {scale}" for scale in (0.3, 1.0, 3.0)]
    for numbers in found.values():
        assert 0 < numbers["mean"] <= numbers["largest"] < 0.05
    assert reward_differences(tasks[0], ("mask",), "tf32", 8)["mask, spread 1.0"]["largest"] == 0
    measured = edits(tasks, "shift", "bfloat16", 100)
    assert 0 <= measured["forget_mean"] <= measured["forget_worst"] <= 100
    assert measured["retain_drop_mean"] <= measured["retain_drop_worst"]
