import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import (
    Row,
    by_variant,
    curve_frame,
    describe,
    factor_names,
    frame,
    group_by,
    select,
)
from tests.report.rows import COST, rows_of


@pytest.mark.parametrize("name", ["PPO-shift", "ppo_shift", "ppo--shift", "-ppo", "", "ppo shift"])
def test_method_names_are_lower_case_with_hyphens(name):
    with pytest.raises(ValueError, match="like 'ppo-shift'"):
        Row(name, "t", 0, {}, COST)


@pytest.mark.parametrize("name", ["ToW", "tug-of-war", "_tow", "tow_", "1tow", "", "tow\n"])
def test_metric_names_are_lower_snake(name):
    with pytest.raises(ValueError, match="like 'forget_accuracy_test'"):
        Row("ppo-shift", "t", 0, {name: 1.0}, COST)


@pytest.mark.parametrize("method", ["original", "retrain-2", "logit-mask", "random-search-shift"])
def test_names_of_the_contract_are_accepted(method):
    row = Row(method, "t", 0, {"bpsn_m5": 1.0, "forget_accuracy_test": np.float64(0.5)}, COST)
    assert row.method == method
    assert row.metrics == {"bpsn_m5": 1.0, "forget_accuracy_test": 0.5}
    assert {type(value) for value in row.metrics.values()} == {float}


def test_a_row_keeps_its_own_metrics():
    metrics = {"tow": 0.5}
    row = Row("ppo-shift", "t", 0, metrics, COST)
    metrics["tow"] = 0.9
    assert row.metrics == {"tow": 0.5}
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.seed = 1


@pytest.mark.parametrize("name", ["Network", "seen-network", "_a", ""])
def test_factor_and_curve_names_are_lower_snake(name):
    with pytest.raises(ValueError, match="factor name"):
        Row("ppo-shift", "t", 0, {}, COST, {name: 1})
    with pytest.raises(ValueError, match="curve name"):
        Row("ppo-shift", "t", 0, {}, COST, curves={name: [1.0]})


@pytest.mark.parametrize("name", ["method", "task", "seed", "seconds", "reward_evaluations", "tow"])
def test_a_factor_may_not_be_named_as_another_column(name):
    with pytest.raises(ValueError, match="choose another"):
        Row("ppo-shift", "t", 0, {"tow": 1.0}, COST, {name: 1})


def test_a_metric_may_not_be_named_as_a_cost():
    with pytest.raises(ValueError, match="'seconds' is that of another column"):
        Row("ppo-shift", "t", 0, {"seconds": 1.0}, COST)


def test_factors_are_text_numbers_and_truth_values():
    values = {"network": "mlp-64x16", "budget": np.int64(10), "seen": np.bool_(True), "rate": 0.5}
    row = Row("ppo-shift", "t", 0, {}, COST, values)
    assert row.factors == {"network": "mlp-64x16", "budget": 10, "seen": True, "rate": 0.5}
    assert [type(value) for value in row.factors.values()] == [str, int, bool, float]
    with pytest.raises(ValueError, match=r"factor 'network' is \[1, 2\]"):
        Row("ppo-shift", "t", 0, {}, COST, {"network": [1, 2]})


def test_curves_have_equal_lengths():
    row = Row("snes-mask", "t", 0, {}, COST, curves={"edits": np.array([1, 2]), "score": [0.5, 1]})
    assert row.curves == {"edits": (1, 2), "score": (0.5, 1)}
    with pytest.raises(ValueError, match="curves differ in length"):
        Row("snes-mask", "t", 0, {}, COST, curves={"edits": [1, 2], "score": [0.5]})


def test_the_frame_has_a_column_for_everything_but_curves():
    rows = [
        Row("ppo-shift", "t", 0, {"tow": 0.5}, Cost(10, 2, 0.1), {"budget": 10}, {"score": [1]}),
        Row("ridge", "t", 1, {"auc": 0.7}, Cost(), {"network": "cnn"}),
    ]
    table = frame(rows)
    assert list(table.columns) == [
        "method", "task", "seed", "budget", "network", "tow", "auc",
        "reward_evaluations", "gradient_steps", "seconds",
    ]  # fmt: skip
    assert table["tow"].tolist()[0] == 0.5 and math.isnan(table["tow"][1])
    assert table["seed"].tolist() == [0, 1] and table["reward_evaluations"].tolist() == [10, 0]
    assert pd.isna(table["network"][0]) and table["network"][1] == "cnn"
    means = frame(rows_of("ft", [[1.0], [3.0]])).groupby("method")["tow"].mean()
    assert means["ft"] == 2.0
    assert list(frame([]).columns)[:3] == ["method", "task", "seed"]


def test_curves_in_long_format_have_a_line_for_each_point():
    rows = [
        Row(
            "ppo-mask", f"forget-{seed}", seed, {}, COST, {"start": "scratch"},
            {"reward_evaluations": np.array([5, 10]), "score": np.array([1.0, np.nan])},
        )
        for seed in (0, 1)
    ]  # fmt: skip
    rows += [Row("original", "forget-0", 0, {"tow": 1.0}, COST)]
    rows += [Row("snes-mask", "forget-0", 0, {}, COST, curves={"reward_evaluations": [7]})]
    table = curve_frame(rows)
    assert table.to_dict("list") == {
        "method": ["ppo-mask"] * 4 + ["snes-mask"],
        "task": ["forget-0", "forget-0", "forget-1", "forget-1", "forget-0"],
        "seed": [0, 0, 1, 1, 0],
        "start": ["scratch"] * 4 + [None],
        "reward_evaluations": [5, 10, 5, 10, 7],
        "score": [1.0, None, 1.0, None, None],
    }


def test_group_by_method_keeps_the_order():
    rows = rows_of("snes-mask", [[1]]) + rows_of("ft", [[2]]) + rows_of("snes-mask", [[3]])
    groups = group_by(rows, "method")
    assert list(groups) == ["snes-mask", "ft"]
    assert [row.metrics["tow"] for row in groups["snes-mask"]] == [1, 3]


def test_groups_by_several_columns_have_tuples_as_keys():
    rows = rows_of("ppo", [[1, 2]], budget=10) + rows_of("ppo", [[3]], budget=20)
    rows += rows_of("ridge", [[4]])
    groups = group_by(rows, "method", "budget")
    assert list(groups) == [("ppo", 10), ("ppo", 20), ("ridge", None)]
    assert [len(group) for group in by_variant(rows)] == [2, 1, 1]
    assert [len(group) for group in by_variant(rows, strata=["budget"])] == [3, 1]
    assert factor_names(rows) == ["budget"]


def test_rows_are_selected_by_any_column():
    rows = rows_of("ppo", [[1, 2]], budget=10) + rows_of("ppo", [[3]], budget=20)
    rows += rows_of("ridge", [[4]])
    assert [row.metrics["tow"] for row in select(rows, method="ppo", budget=10)] == [1, 2]
    assert [row.metrics["tow"] for row in select(rows, budget=None)] == [4]
    assert [row.metrics["tow"] for row in select(rows, task="forget-1")] == [2]
    assert describe(rows[0]) == "method 'ppo' with budget 10"
