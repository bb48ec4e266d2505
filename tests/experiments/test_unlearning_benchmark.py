"""Statistics and tables of the benchmark, and a small run from end to end."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from experiments.common.methods import Method, Result
from experiments.unlearning_benchmark.__main__ import command
from experiments.unlearning_benchmark.config import BenchmarkConfig
from experiments.unlearning_benchmark.distributions import (
    distances,
    task_margins,
    with_distances,
)
from experiments.unlearning_benchmark.report import write_report
from experiments.unlearning_benchmark.statistics import SMALLEST_MARGIN, all_statistics
from experiments.unlearning_benchmark.tables import benchmark_table, detail_table, floor_table
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.ppo import PPO
from modeledit_jax.editors.unlearning.closed_form import RidgeEditor
from modeledit_jax.evaluation.statistics import hierarchical_bootstrap, holm, tost
from modeledit_jax.presets.preset import preset_names
from modeledit_jax.report.markdown import interval_cell
from modeledit_jax.report.summary import read_summary
from modeledit_jax.report.table import Row, select
from modeledit_jax.tasks.outputs import role_outputs
from tests import tiny
from tests.experiments.command_line import error_of

SEEDS, TASKS = 5, ("forget-0", "forget-1", "forget-2")
AWAY = {"retrain": 0.0, "retrain-2": 0.0, "retrain-3": 0.0, "near": 0.002, "far": 0.3}


def made_up(rng):
    """Rows of methods whose ``gap`` is so far from Retrain's, with noise of 0.01."""
    return [
        Row(name, task, seed, {"gap": 0.5 + away + noise}, Cost())
        for name, away in AWAY.items()
        for task in TASKS
        for seed, noise in enumerate(0.01 * rng.normal(size=SEEDS))
    ]


@pytest.fixture(scope="module")
def rows():
    return made_up(np.random.default_rng(0))


@pytest.fixture(scope="module")
def found(rows):
    return {one.method: one for one in all_statistics(rows, ["gap"], ["retrain-2", "retrain-3"])}


def matrix(rows, name):
    own = select(rows, method=name)
    return np.array([[r.metrics["gap"] for r in own if r.task == t] for t in TASKS]).T


def test_statistics_agree_with_scipy_and_with_their_parts(rows, found):
    retrain = matrix(rows, "retrain")
    chance = np.abs([matrix(rows, f"retrain-{k}") - retrain for k in (2, 3)])
    margin = np.quantile(chance, 0.95)
    names = list(found)
    away = {name: matrix(rows, name) - retrain for name in names}
    tests = holm([tost(away[name], margin) for name in names])
    signed = holm(
        [
            scipy.stats.wilcoxon((np.abs(away[name]) - chance[0]).ravel()).pvalue
            if name != "retrain-2"
            else 1.0
            for name in names
        ]
    )
    for name, p, q in zip(names, tests, signed, strict=True):
        one = found[name]
        assert one.margin == pytest.approx(margin)
        assert one.deviation == pytest.approx(away[name].mean())
        assert (one.equivalence, one.wilcoxon) == pytest.approx((p, q))
        assert one.hierarchical == hierarchical_bootstrap(matrix(rows, name))
        worst = np.abs(away[name]).mean(axis=0).argmax()
        assert one.worst_task == TASKS[worst]
        assert one.worst == pytest.approx(matrix(rows, name)[:, worst].mean())


def test_what_is_near_is_within_the_floor_and_what_is_far_is_not(found):
    assert found["near"].equivalent and found["retrain-2"].equivalent
    assert not found["far"].equivalent
    assert found["far"].as_close.point == 0 and found["far"].difference.low > 0.2
    assert found["retrain-2"].as_close.point == 0.5 and found["retrain-2"].wilcoxon == 1
    assert "retrain" not in found


def test_the_floor_of_equal_networks_is_not_zero(rows):
    equal = [replace(row, metrics={"gap": 1.0}) for row in rows]
    found = all_statistics(equal, ["gap", "absent"], ["retrain-2"])
    assert {one.metric for one in found} == {"gap"}  # what no row has is left out
    assert all(one.margin == SMALLEST_MARGIN and one.equivalent for one in found)


def test_a_single_cell_and_a_metric_that_is_undefined():
    rows = [Row(name, "forget-0", 0, {"gap": 0.1, "index": math.nan}, Cost()) for name in AWAY]
    found = all_statistics(rows, ["gap", "index"], ["retrain-2"])
    assert {one.metric for one in found} == {"gap"}
    assert all(math.isnan(one.equivalence) and not one.equivalent for one in found)


def test_a_ratio_is_read_in_doublings(rows):
    ratios = {"retrain": 1.0, "retrain-2": 1.5, "retrain-3": 0.5, "near": 1.2, "far": 0.0}
    index = [replace(row, metrics={"relearn_index": ratios[row.method]}) for row in rows]
    replicates = ["retrain-2", "retrain-3"]
    found = {one.method: one for one in all_statistics(index, ["relearn_index"], replicates)}
    assert found["near"].deviation == pytest.approx(math.log2(1.2))
    assert found["far"].deviation == -6 and found["far"].mean == 0  # 0 stands for 1/64
    assert {one.margin for one in found.values()} == {1.0}
    assert found["near"].equivalent and not found["far"].equivalent


def test_the_floor_table_marks_what_is_within(found):
    header, lines = floor_table(list(found.values()))
    cells = {line[0]: line[1] for line in lines}
    assert header == ["method", "gap"] and float(cells["margin"]) > 0
    assert cells["near"].endswith("✓") and "✓" not in cells["far"]
    assert cells["far"].startswith("+0.30")


def test_distances_are_of_all_networks_of_a_request():
    tasks = [tiny.task(0, seed=seed) for seed in range(3)]
    outputs = [role_outputs(task, task.subject.params, ("test",)) for task in tasks]
    margins = task_margins(tasks, Result("original", outputs, [Cost()] * 3))
    label = np.asarray(tasks[0].roles["test"].label)
    logits = outputs[0]["test"].astype(np.float64)
    truth = np.take_along_axis(logits, label[:, None], 1)[:, 0]
    others = np.where(np.eye(logits.shape[1], dtype=bool)[label], -np.inf, logits)
    expected = truth - scipy.special.logsumexp(others, axis=1)
    np.testing.assert_allclose(margins[0], expected, rtol=1e-3, atol=1e-4)
    (name,) = {task.name for task in tasks}
    same = distances(tasks, margins, [margins])[name]
    far = distances(tasks, margins + 50, [margins, margins])[name]
    assert same["klom_forget_test"] == pytest.approx(0, abs=1e-5)
    assert far["klom_forget_test"] > 5 and far["likelihood_ratio_auc_forget_test"] == 1
    few = distances(tasks[:2], margins[:2], [margins[:2]])[name]
    assert math.isnan(few["likelihood_ratio_auc_forget_test"])


def test_distances_stand_in_the_row_of_the_first_network(rows):
    own = select(rows, method="near")
    merged = with_distances(own, {task: {"klom": 2.0} for task in TASKS})
    assert {row.seed for row in merged if "klom" in row.metrics} == {0}
    assert len(merged) == len(own)


def test_all_presets_are_compared_by_default():
    always = {"original", "logit-mask", "retrain", "retrain-2"}
    assert set(BenchmarkConfig().methods) == set(preset_names("unlearning")) - always


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return BenchmarkConfig(
        dataset="digits",
        forget_class="7",
        seeds=1,
        epochs=3,
        budget=20,
        methods=("ridge", "random-search-shift"),
        retrains=2,
        cache_dir=tmp_path_factory.mktemp("cache"),
        run_dir=tmp_path_factory.mktemp("runs") / "run",
    )


@pytest.fixture(scope="module")
def finished(small):
    assert command.main(small) == 0
    return small.run_dir


@pytest.mark.slow
def test_the_run_folder_holds_what_is_promised(finished):
    rows = {row.method: row for row in read_summary(finished).rows}
    names = ["original", "logit-mask", "retrain", "retrain-2", "ridge", "random-search-shift"]
    assert list(rows) == names
    assert rows["logit-mask"].metrics["forget_accuracy_test"] == 0
    assert rows["retrain"].metrics["tow"] == rows["retrain"].metrics["relearn_index"] == 1
    assert "klom_forget_test" in rows["ridge"].metrics
    assert "klom_forget_test" not in rows["retrain-2"].metrics  # it is what others are measured by
    report = (finished / "report.md").read_text()
    assert "experiments.tuning.unlearning" in report and "| ridge |" in report
    assert (finished / "table.tex").read_text().count(r"\\") == 1 + len(names)
    table = pd.read_csv(finished / "statistics.csv")
    assert set(table.method) == set(names) - {"retrain"} and "hierarchical_low" in table
    assert (finished / "figures" / "distances.png").stat().st_size > 1_000


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_where_it_was(small, finished, monkeypatch):
    before = (finished / "statistics.csv").read_bytes()
    (finished / "cells" / "ridge.json").unlink()
    kept = finished / "inside" / "ridge" / "forget-7-seed-0.json"
    measured = json.loads(kept.read_text())

    def never(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr("experiments.unlearning_benchmark.run.inner_measurements", never)
    assert command.main(replace(small, resume=True)) == 0
    assert (finished / "statistics.csv").read_bytes() == before
    assert json.loads(kept.read_text()) == measured


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"retrains": 1}, ["--retrains must be at least 2"]),
        ({"relearning_repeats": 0}, ["--relearning-repeats must be at least 1"]),
        ({"methods": ("leace",)}, ["unknown method 'leace'"]),
        ({"forget_class": "12"}, ["12", "0 to 9"]),
    ],
)
def test_mistakes_name_their_cure(small, tmp_path, capsys, changes, parts):
    message = error_of(command.main, replace(small, run_dir=tmp_path / "run", **changes), capsys)
    assert all(part in message for part in parts), message


def test_the_report_is_written_from_rows(tmp_path):
    rng = np.random.default_rng(1)
    names = ("forget_accuracy_test", "retain_drop_test", "optimism", "tow", "klom_forget_test")
    names += ("prototype_gap_1_layer_1", "relearn_index_fresh")
    rows = [
        replace(row, metrics=dict(zip(names, rng.random(7), strict=True))) for row in made_up(rng)
    ]
    config = BenchmarkConfig(dataset="digits", methods=("ridge", "ppo-shift"), run_dir=tmp_path)
    methods = [Method("ridge", RidgeEditor()), Method("ppo-shift", PPO(world="shift"))]
    rows += [replace(row, method=m) for m in ("ridge", "ppo-shift") for row in rows[:15]]
    write_report(config, rows, methods, ["retrain-2", "retrain-3"], ["a note"])
    report = (tmp_path / "report.md").read_text()
    assert "| ppo-shift | ridge |" in report and report.endswith("- a note\n")
    assert "weight: 0.3, 1.0, 3.0; margin: 2.0, 5.0 | 6 | weight=3.0, margin=5.0" in report
    assert (tmp_path / "table.tex").read_text().count(r"\\") == 1 + 7
    table = pd.read_csv(tmp_path / "statistics.csv")
    assert set(table.metric) == set(names) - {"klom_forget_test", "retain_drop_test", "optimism"}
    assert np.all(table.hierarchical_low <= table.hierarchical_high)
    assert (tmp_path / "figures" / "distances.png").stat().st_size > 1_000


def test_the_table_has_a_line_for_every_method(rows):
    full = {"forget_accuracy_test": 0.0, "retain_drop_test": 0.01, "optimism": 0.0, "tow": 0.9}
    lines = benchmark_table([replace(row, metrics=full) for row in rows], [])[1]
    assert [line[0] for line in lines] == list(AWAY) and {line[3] for line in lines} == {"1.00"}
    assert {line[-1] for line in lines} == {"–"}  # nothing is known to be as retrained


def test_the_table_says_in_what_a_method_is_as_retrained(rows):
    names = ("tow", "prototype_gap_1_layer_1")
    both = [replace(row, metrics=dict.fromkeys(names, row.metrics["gap"])) for row in rows]
    found = all_statistics(both, names, ["retrain-2", "retrain-3"])
    header, lines = benchmark_table(both, found)
    cells = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    assert cells["near"]["as retrained"] == "ToW, layer 1"
    assert cells["far"]["as retrained"] == "–"
    one = next(one for one in found if (one.method, one.metric) == ("far", names[1]))
    assert cells["far"]["prototype gap [95 %]"] == interval_cell(one.hierarchical, 2)
    header, lines = detail_table(both, found)
    assert [len(line) for line in lines] == [len(header)] * len(AWAY)
