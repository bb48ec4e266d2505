"""What the reports share: the course of searches in long format, and when targets were met."""

import numpy as np

from experiments.common.reporting import first_met, long_format, quantiles_of_needed, speed_lines
from experiments.common.searching import Result
from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.summary import Row
from tests import tiny


def test_long_format_has_one_line_per_task_and_update():
    tasks = [tiny.task(0), tiny.task(1)]
    result = Result(
        "ppo-mask", [], [], evaluations=np.array([5, 10]), score=np.array([[1, 2], [3, 4]])
    )
    columns = long_format(tasks, [0, 1], [result], {"tow": [np.array([[6, 7], [8, 9]])]})
    assert columns == {
        "editor": ["ppo-mask"] * 4,
        "task": ["forget-0", "forget-0", "forget-1", "forget-1"],
        "seed": [0, 0, 1, 1],
        "reward_evaluations": [5, 10, 5, 10],
        "score": [1, 2, 3, 4],
        "tow": [6, 7, 8, 9],
    }
    assert long_format(tasks, [0, 1], [], {"tow": []})["tow"] == []  # the header stands alone


def test_a_target_never_met_is_infinitely_far():
    met = np.array([[False, True, False], [False, False, False], [True, True, True]])
    needed = first_met(met, np.array([10, 20, 30]))
    np.testing.assert_array_equal(needed, [20, np.nan, 10])
    assert quantiles_of_needed(needed, (0.0, 0.5, 0.9)) == [10, 20, np.inf]


def test_speed_lines_show_searches_alone():
    rows = [Row("original", "a", 0, {"tow": 0.5}, Cost())]
    levels = {"median": 0.5, "90th percentile": 0.9}
    assert speed_lines("to forget", rows, solved="solved", levels=levels) == []
    rows += [
        Row("snes-mask", "a", seed, {"evaluations_to_target": needed}, Cost())
        for seed, needed in enumerate((1000.0, 1200.0, np.nan))
    ]
    assert speed_lines("to forget", rows, solved="solved", levels=levels) == [
        "## Reward evaluations to forget",
        "",
        "| search | solved | median | 90th percentile |",
        "| --- | ---: | ---: | ---: |",
        "| snes-mask | 2/3 | 1,200 | not reached |",
        "",
    ]
