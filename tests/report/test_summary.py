import csv
import dataclasses
import json
import math
import re
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.report import summary as summary_file
from modeledit_jax.report.aggregates import aggregate
from modeledit_jax.report.summary import environment, read_summary, write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, curve_frame
from tests.report.rows import COST, rows_of


@dataclasses.dataclass(frozen=True)
class _Inner:
    rates: tuple[float, ...] = (0.1, 0.2)


def test_summary_has_the_schema_and_reads_back(tmp_path):
    config = {"seed": np.int64(3), "path": Path("a/b"), "inner": _Inner(), "none": None}
    config |= {"flag": True, "array": jnp.arange(2), "bound": math.inf}
    rows = rows_of("ppo-shift", [[0.9, 0.8], [0.7, np.nan]])
    rows += rows_of("original", [[0.5], [0.75]], budget=10)
    path = write_summary(tmp_path / "new" / "run", "unlearning", config, rows)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    data = json.loads(path.read_text(), parse_constant=refuse)
    assert list(data) == ["schema", "experiment", "config", "environment", "rows", "aggregates"]
    assert (data["schema"], data["experiment"]) == (2, "unlearning")
    assert data["config"] == {
        "seed": 3, "path": "a/b", "inner": {"rates": [0.1, 0.2]}, "none": None, "flag": True,
        "array": [0, 1], "bound": None,
    }  # fmt: skip
    assert data["rows"][0] == {
        "method": "ppo-shift",
        "task": "forget-0",
        "seed": 0,
        "metrics": {"tow": 0.9},
        "cost": {"reward_evaluations": 2000, "gradient_steps": 0, "seconds": 1.5},
        "factors": {},
    }
    assert data["rows"][3]["metrics"] == {"tow": None}
    assert data["aggregates"][0]["iqm"] is None and data["aggregates"][0]["n"] == 4
    assert data["aggregates"][1] == {
        "method": "original", "metric": "tow", "iqm": 0.625, "ci_low": 0.5, "ci_high": 0.75, "n": 2,
        "factors": {"budget": 10},
    }  # fmt: skip

    summary = read_summary(tmp_path / "new" / "run")
    assert summary.experiment == "unlearning" and summary.config == data["config"]
    assert summary.rows[:3] == rows[:3] and math.isnan(summary.rows[3].metrics["tow"])
    assert summary.rows[4:] == rows[4:] and summary.rows[4].factors == {"budget": 10}
    assert summary.aggregates[1] == aggregate(rows)[1]
    assert math.isnan(summary.aggregates[0].iqm)
    assert summary.environment == environment()


def test_summary_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="cannot write"):
        write_summary(tmp_path, "unlearning", {"f": print}, [])
    assert list(tmp_path.iterdir()) == []


def test_read_summary_names_the_cure(tmp_path):
    with pytest.raises(FileNotFoundError, match="--run-dir of a finished run"):
        read_summary(tmp_path)
    (tmp_path / "summary.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema 0, not 2"):
        read_summary(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is damaged: run it again"),
        ("null", "it holds null, not an object"),
        ("[" * 1_000_000, "nested too deeply"),
        (
            '{"schema": 2}',
            'is no summary of schema 2 .missing value for field "experiment".: run it',
        ),
        ('{"schema": 2, "rows": 3}', "is no summary of schema 2"),
        ('{"schema": 2, "rows": [3]}', "is no summary of schema 2"),
        ('{"schema": 2, "rows": [], "aggregates": [{"x": 1}]}', "is no summary of schema 2"),
        (
            '{"schema": 2, "experiment": ["unlearning"], "config": {}, "environment": {}, '
            '"rows": [], "aggregates": []}',
            "should be .str. instead of value",
        ),
        (
            '{"schema": 2, "experiment": "e", "config": {}, "environment": {}, "aggregates": [], '
            '"rows": [{"method": "a", "task": "b", "seed": 0, "metrics": {"c": true},'
            ' "cost": {}, "factors": {}}]}',
            "True stands where a number belongs",
        ),
    ],
    ids=range(9),
)
def test_damaged_summaries_are_named(tmp_path, text, message):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(ValueError, match=rf"summary\.json.*{message}"):
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
    assert summary_file._commit(tmp_path) == head
    (tmp_path / "file").write_text("2")
    assert summary_file._commit(tmp_path) == head + "-dirty"
    installed = tmp_path / "venv" / "site-packages"
    installed.mkdir(parents=True)
    assert summary_file._commit(installed) == "unknown"  # another repository encloses it


def test_curves_are_in_metrics_csv_alone(tmp_path):
    curves = {"reward_evaluations": np.array([5, 10]), "reward": np.array([0.5, np.inf])}
    rows = [Row("ppo-shift", "forget-0", 3, {"tow": 1.0}, COST, {"budget": 10}, curves)]
    path = write_metrics_csv(tmp_path, [*rows, *rows_of("original", [[1.0]])])
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["method", "task", "seed", "budget", "reward_evaluations", "reward"],
            ["ppo-shift", "forget-0", "3", "10", "5", "0.5"],
            ["ppo-shift", "forget-0", "3", "10", "10", ""],
        ]
    write_summary(tmp_path, "unlearning", {}, rows)
    (row,) = read_summary(tmp_path).rows
    assert row == dataclasses.replace(rows[0], curves={})


def test_metrics_csv_is_what_pandas_would_write(tmp_path):
    rows = [
        Row(method, 'a "task", or\ntwo', seed, {}, COST, factors, {"x": curve, "n": [1, 2]})
        for method, seed, factors, curve in (
            ("one", 0, {"flag": True, "kind": "a,b"}, [1e-20, 0.1]),
            ("two", 7, {"size": 3.5}, [np.nan, 1e22]),
        )
    ]
    path = write_metrics_csv(tmp_path, rows)
    assert path.read_bytes().decode() == curve_frame(rows).to_csv(index=False, lineterminator="\n")


def test_without_curves_the_header_stands_alone(tmp_path):
    path = write_metrics_csv(tmp_path, rows_of("original", [[1.0]]))
    assert path.read_text() == "method,task,seed\n"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_metrics_csv_loses_no_digit(tmp_path_factory, values):
    row = Row("ft", "t", 0, {}, COST, curves={"a": values, "b": values})
    path = write_metrics_csv(tmp_path_factory.mktemp("csv"), [row])
    with path.open(newline="") as file:
        read = [line["a"] for line in csv.DictReader(file)]
    assert read == [repr(value) if math.isfinite(value) else "" for value in values]
