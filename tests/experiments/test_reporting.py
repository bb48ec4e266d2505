"""What the reports of the experiments share."""

import numpy as np

from experiments.common.reporting import speed_lines
from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import Row


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
