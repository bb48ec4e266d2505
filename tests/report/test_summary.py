import csv
import dataclasses
import json
import math
import os
import re
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.report import summary as results
from modeledit_jax.report.summary import (
    Aggregate,
    Column,
    Row,
    aggregate,
    atomic_write_text,
    environment,
    group_by_editor,
    markdown_table,
    read_summary,
    write_metrics_csv,
    write_summary,
)

COST = Cost(2000, 0, 1.5)


def rows_of(editor, scores, metric="tow", cost=COST):
    """One row per entry of [seeds, tasks] scores."""
    return [
        Row(editor, f"forget-{task}", seed, {metric: float(value)}, cost)
        for (seed, task), value in np.ndenumerate(np.asarray(scores))
    ]


@pytest.mark.parametrize("name", ["PPO-shift", "ppo_shift", "ppo--shift", "-ppo", "", "ppo shift"])
def test_editor_names_are_lower_case_with_hyphens(name):
    with pytest.raises(ValueError, match="like 'ppo-shift'"):
        Row(name, "t", 0, {}, COST)


@pytest.mark.parametrize("name", ["ToW", "tug-of-war", "_tow", "tow_", "1tow", "", "tow\n"])
def test_metric_names_are_lower_snake(name):
    with pytest.raises(ValueError, match="like 'forget_accuracy_test'"):
        Row("ppo-shift", "t", 0, {name: 1.0}, COST)


@pytest.mark.parametrize("editor", ["original", "retrain-2", "logit-mask", "random-search-shift"])
def test_names_of_the_contract_are_accepted(editor):
    row = Row(editor, "t", 0, {"bpsn_m5": 1.0, "forget_accuracy_test": np.float64(0.5)}, COST)
    assert row.editor == editor
    assert row.metrics == {"bpsn_m5": 1.0, "forget_accuracy_test": 0.5}
    assert {type(value) for value in row.metrics.values()} == {float}


def test_a_row_keeps_its_own_metrics():
    metrics = {"tow": 0.5}
    row = Row("ppo-shift", "t", 0, metrics, COST)
    metrics["tow"] = 0.9
    assert row.metrics == {"tow": 0.5}
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.seed = 1


def test_aggregate_is_the_iqm_with_stratified_bootstrap():
    scores = np.random.default_rng(0).uniform(size=(3, 4))
    rows = rows_of("ppo-shift", scores) + rows_of("openes-shift", scores + 1)
    rng = np.random.default_rng(1)
    first, second = aggregate([rows[i] for i in rng.permutation(12)] + rows[12:])
    assert (first.editor, first.metric, first.n) == ("ppo-shift", "tow", 12)
    assert first.iqm == pytest.approx(scipy.stats.trim_mean(scores, 0.25, axis=None))
    # The order of rows may permute tasks, which changes the resampling but not its law.
    expected = stratified_bootstrap(scores)
    np.testing.assert_allclose([first.ci_low, first.ci_high], expected[1:], atol=0.01)
    assert second.editor == "openes-shift"
    np.testing.assert_allclose(
        [second.iqm, second.ci_low, second.ci_high], stratified_bootstrap(scores + 1)
    )


def test_aggregate_of_a_single_seed_has_no_interval():
    (item,) = aggregate(rows_of("original", [[0.1, 0.2, 0.3, 0.4]]))
    assert item.iqm == pytest.approx(0.25) and item.n == 4
    assert math.isnan(item.ci_low) and math.isnan(item.ci_high)


def test_aggregate_does_not_hide_a_failed_run():
    (item,) = aggregate(rows_of("ppo-shift", [[0.1, 0.2], [0.1, np.nan]]))
    assert item.n == 4
    assert all(math.isnan(value) for value in (item.iqm, item.ci_low, item.ci_high))


def test_aggregate_takes_each_metric_over_the_rows_that_have_it():
    rows = rows_of("ppo-shift", [[0.5], [0.7]]) + rows_of("ppo-shift", [[3.0]], metric="auc")
    tow, auc = aggregate(rows)
    assert (tow.metric, tow.n, tow.iqm) == ("tow", 2, pytest.approx(0.6))
    assert (auc.metric, auc.n, auc.iqm) == ("auc", 1, 3.0)


def test_aggregate_refuses_double_and_missing_rows():
    rows = rows_of("ppo-shift", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two rows for one"):
        aggregate([*rows, rows[0]])
    with pytest.raises(ValueError, match=r"lacks \(task, seed\) \[\('forget-1', 0\)\]"):
        aggregate([row for row in rows if (row.task, row.seed) != ("forget-1", 0)])


def test_group_by_editor_keeps_the_order():
    rows = rows_of("snes-mask", [[1]]) + rows_of("ft", [[2]]) + rows_of("snes-mask", [[3]])
    groups = group_by_editor(rows)
    assert list(groups) == ["snes-mask", "ft"]
    assert [row.metrics["tow"] for row in groups["snes-mask"]] == [1, 3]


@dataclasses.dataclass(frozen=True)
class _Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


def test_summary_has_the_schema_and_reads_back(tmp_path):
    config = {"seed": np.int64(3), "path": Path("a/b"), "inner": _Inner(), "none": None}
    config |= {"flag": True, "array": jnp.arange(2), "bound": math.inf}
    rows = rows_of("ppo-shift", [[0.9, 0.8], [0.7, np.nan]])
    aggregates = [*aggregate(rows), Aggregate("original", "tow", 0.5, 0.25, 0.75, 6)]
    path = write_summary(tmp_path / "new" / "run", "unlearning", config, rows, aggregates)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(path.read_text(), parse_constant=refuse)
    assert list(data) == ["schema", "experiment", "config", "environment", "rows", "aggregates"]
    assert (data["schema"], data["experiment"]) == (1, "unlearning")
    assert data["config"] == {
        "seed": 3, "path": "a/b", "inner": {"rates": [0.1, 0.2]}, "none": None, "flag": True,
        "array": [0, 1], "bound": None,
    }  # fmt: skip
    assert data["rows"][0] == {
        "editor": "ppo-shift",
        "task": "forget-0",
        "seed": 0,
        "metrics": {"tow": 0.9},
        "cost": {"reward_evaluations": 2000, "gradient_steps": 0, "seconds": 1.5},
    }
    assert data["rows"][3]["metrics"] == {"tow": None}
    assert data["aggregates"][0]["iqm"] is None and data["aggregates"][0]["n"] == 4
    assert data["aggregates"][1] == {
        "editor": "original", "metric": "tow", "iqm": 0.5, "ci_low": 0.25, "ci_high": 0.75, "n": 6
    }  # fmt: skip

    summary = read_summary(tmp_path / "new" / "run")
    assert summary.experiment == "unlearning" and summary.config == data["config"]
    assert summary.rows[:3] == rows[:3] and math.isnan(summary.rows[3].metrics["tow"])
    assert summary.aggregates[1] == aggregates[1] and math.isnan(summary.aggregates[0].iqm)
    assert summary.environment == environment()


def test_summary_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="cannot write"):
        write_summary(tmp_path, "unlearning", {"f": print}, [], [])
    assert list(tmp_path.iterdir()) == []


def test_read_summary_names_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="--run-dir of a finished run"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema 0, not 1"):
        read_summary(tmp_path)


def test_environment_names_jax_device_and_commit():
    here = environment()
    assert list(here) == ["jax", "device", "commit", "python", "platform"]
    assert here["jax"] == jax.__version__
    assert here["device"].startswith(f"{jax.device_count()} x ") and "(cpu)" in here["device"]
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", here["commit"])


def test_commit_is_that_of_the_checkout_and_marks_changes(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)

    git("init")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-m", "one")
    head = git("rev-parse", "HEAD").stdout.strip()
    assert results._commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert results._commit(tmp_path) == head + "-dirty"
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert results._commit(installed) == "unknown"  # another project's repository encloses it


def test_metrics_csv_reads_back(tmp_path):
    columns = {
        "update": [0, 1, 2],
        "reward": jnp.array([0.5, jnp.nan, 0.25]),
        "forget_accuracy": np.array([0.1, 0.2, np.inf]),
    }
    path = write_metrics_csv(tmp_path, columns)
    with path.open(newline="") as file:
        table = list(csv.reader(file))
    assert table == [
        ["update", "reward", "forget_accuracy"],
        ["0", "0.5", "0.1"],
        ["1", "", "0.2"],
        ["2", "0.25", ""],
    ]


def test_metrics_csv_refuses_bad_columns(tmp_path):
    with pytest.raises(ValueError, match="differ in length"):
        write_metrics_csv(tmp_path, {"a": [1, 2], "b": [1]})
    with pytest.raises(ValueError, match="metric name"):
        write_metrics_csv(tmp_path, {"Reward": [1]})


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_metrics_csv_loses_no_digit(tmp_path_factory, values):
    path = write_metrics_csv(tmp_path_factory.mktemp("csv"), {"a": values, "b": values})
    with path.open(newline="") as file:
        read = [row["a"] for row in csv.DictReader(file)]
    assert read == [repr(value) if math.isfinite(value) else "" for value in values]


def test_atomic_write_replaces_whole_files(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    atomic_write_text(path, "old")
    atomic_write_text(path, "new − ½\n")
    assert path.read_bytes() == "new − ½\n".encode()
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_a_crash_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    atomic_write_text(path, "old")

    def crash(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk full"):
        atomic_write_text(path, "new")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


def test_markdown_table_of_two_editors():
    scores = np.array([[0.0, 0.001], [0.002, 0.0306]])
    rows = rows_of("ppo-shift", scores, "forget_accuracy_test", Cost(2000, 1, 1.234))
    rows += rows_of("original", [[0.9, 0.95]], "forget_accuracy_test", Cost(0, 0, 0.0))
    table = markdown_table(rows, [Column("forget_accuracy_test", worst="highest")], costs=True)
    header, rule, ppo, original = table.split("\n")
    assert header == (
        "| editor | forget accuracy test %: mean | worst | IQM [95% interval] "
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
