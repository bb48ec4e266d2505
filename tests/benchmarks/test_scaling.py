"""The benchmark of scaling fits slopes rightly, and a small run has its figure."""

import json

import pytest

from benchmarks.scaling import Config, main, slope


def test_slope_of_a_power():
    numbers = [1, 10, 100]
    assert slope(numbers, [2.0 * n**1.5 for n in numbers]) == pytest.approx(1.5)


@pytest.mark.slow
def test_a_small_run_to_its_figure(tmp_path):
    sizes = {"candidates": (4, 8), "tasks": (1, 2), "group_examples": (50,), "group_tasks": 4}
    main(Config(rounds=1, examples=50, group_sizes=(1, 2), output=tmp_path, **sizes))
    (path,) = tmp_path.glob("scaling-*.json")
    results = json.loads(path.read_text())
    assert set(results["candidates"]["per_second"]) == {"4", "8"}
    assert results["tasks"]["per_second"]["2"]["median"] > 0
    assert results["candidates"]["temporary_bytes"]["8"] > 0
    found = results["groups"]["50"]
    assert set(found["per_second"]) == {"1", "2", "4"} and found["rule"] == 4
    best = max(found["per_second"], key=lambda size: found["per_second"][size]["median"])
    assert found["best"] == int(best) and found["rule_over_best"]["median"] <= 1
    assert path.with_suffix(".png").stat().st_size > 10_000
