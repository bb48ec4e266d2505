import math

import numpy as np
import pytest

from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.statistics import Interval, mean_interval, stratified_bootstrap
from modeledit_jax.report.markdown import (
    Column,
    interval_cell,
    markdown_table,
    mean_cell,
    number,
    varying_factors,
)
from tests.report.rows import rows_of


@pytest.mark.parametrize(
    ("value", "options", "text"),
    [
        (0.12345, {}, "0.12"),
        (-0.5, {"digits": 3}, "−0.500"),
        (0.5, {"percent": True, "digits": 1}, "50.0"),
        (0.00001, {"percent": True}, "<0.01"),
        (-1e-6, {"digits": 3}, ">−0.001"),
        (0.0, {}, "0.00"),
        (-0.0, {"percent": True}, "0.00"),
        (1e-6, {"signed": True}, "+0.00"),
        (0.25, {"signed": True, "digits": 1}, "+0.2"),
        (-0.25, {"signed": True, "percent": True, "digits": 0}, "−25"),
        (12345.6, {"digits": 0}, "12,346"),
        (math.nan, {}, "–"),
        (math.inf, {"signed": True}, "–"),
    ],
)
def test_numbers_for_people(value, options, text):
    assert number(value, **options) == text


def test_an_interval_is_its_point_and_its_bounds():
    assert interval_cell(Interval(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert interval_cell(Interval(-0.5, -1.0, 0.5), 0, percent=True, signed=True) == (
        "−50 [−100, +50]"
    )
    assert interval_cell(Interval(0.5, math.nan, math.nan)) == "0.50"
    assert interval_cell(Interval(math.nan, math.nan, math.nan)) == "–"


def test_a_mean_of_runs_has_its_t_interval():
    low, high = mean_interval([1.0, 2.0, 3.0])[1:]
    assert mean_cell([1.0, 2.0, 3.0], 1) == f"2.0 [−{-low:.1f}, {high:.1f}]"
    assert mean_cell([0.5], 1, percent=True) == "50.0"
    assert mean_cell([0.5, math.nan]) == "–"


def test_columns_without_a_worst_side_show_the_mean_alone():
    rows = rows_of("rledit", [[0.5], [0.7], [0.6]]) + rows_of("ft-m", [[np.nan]])
    columns = [Column("tow", digits=1), Column("tow", percent=False, digits=3)]
    assert markdown_table(rows, columns).split("\n") == [
        "| method | tow % | tow |",
        "| --- | ---: | ---: |",
        "| rledit | 60.0 [35.2, 84.8] | 0.600 [0.352, 0.848] |",
        "| ft-m | – | – |",
    ]


def test_factors_that_vary_are_columns():
    rows = rows_of("ppo-shift", [[0.5]], network="mlp-64x16", seen=True, budget=2000)
    rows += rows_of("ppo-shift", [[0.25]], network="mlp-64x16", seen=False, budget=10)
    rows += rows_of("original", [[0.75]], network="mlp-64x16")
    assert varying_factors(rows) == ["seen", "budget"]
    header, _, *lines = markdown_table(rows, [Column("tow", "lowest")]).split("\n")
    assert header.startswith("| method | seen | budget | tow %: mean |")
    assert [line.split(" | ")[:4] for line in lines] == [
        ["| ppo-shift", "yes", "2,000", "50.00"],
        ["| ppo-shift", "no", "10", "25.00"],
        ["| original", "–", "–", "75.00"],
    ]


def test_markdown_table_of_two_editors():
    scores = np.array([[0.0, 0.001], [0.002, 0.0306]])
    rows = rows_of("ppo-shift", scores, "forget_accuracy_test", Cost(2000, 1, 1.234))
    rows += rows_of("original", [[0.9, 0.95]], "forget_accuracy_test", Cost(0, 0, 0.0))
    table = markdown_table(rows, [Column("forget_accuracy_test", worst="highest")], costs=True)
    header, rule, ppo, original = table.split("\n")
    assert header == (
        "| method | forget accuracy test %: mean | worst | IQM [95% interval] "
        "| reward evaluations | gradient steps | seconds |"
    )
    assert rule == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    low, high = (100 * bound for bound in stratified_bootstrap(scores)[1:])
    low_text = "<0.01" if 0 < low < 0.005 else f"{low:.2f}"
    # Mean of 0, .1, .2, 3.06 percent is .84; the middle half, .1 and .2, has mean .15.
    assert ppo == f"| ppo-shift | 0.84 | 3.06 | 0.15 [{low_text}, {high:.2f}] | 2,000 | 1 | 1.23 |"
    assert original == "| original | 92.50 | 95.00 | 92.50 | 0 | 0 | 0 |"


def test_markdown_table_shows_small_missing_and_failed_values():
    rows = rows_of("ppo-shift", [[0.00001]], "fa") + rows_of("snes-mask", [[np.nan]], "fa")
    rows += rows_of("ft", [[-0.5]], "gap") + rows_of("retrain", [[-1e-6]], "gap")
    columns = [Column("fa", "highest"), Column("gap", "lowest", percent=False, digits=3)]
    _, _, ppo, snes, ft, retrain = markdown_table(rows, columns).split("\n")
    assert ppo == "| ppo-shift | <0.01 | <0.01 | <0.01 | – | – | – |"
    assert snes == "| snes-mask | – | – | – | – | – | – |"
    assert ft == "| ft | – | – | – | −0.500 | −0.500 | −0.500 |"
    assert retrain == "| retrain | – | – | – | >−0.001 | >−0.001 | >−0.001 |"
    assert "gap: mean" in markdown_table(rows, columns)


def test_markdown_worst_follows_the_direction():
    rows = rows_of("ft", [[0.25, 0.75]], "retain_accuracy_test")
    for worst, text in (("lowest", "25.0"), ("highest", "75.0")):
        line = markdown_table(rows, [Column("retain_accuracy_test", worst, digits=1)])
        assert line.split("\n")[2] == f"| ft | 50.0 | {text} | 50.0 |"
