"""The bias-mitigation command: what it leaves behind, and what it refuses."""

import csv
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from experiments.bias_mitigation.__main__ import command
from experiments.bias_mitigation.config import COMPARED, Config
from modeledit_jax.data.comments import synthetic as corpus_module
from modeledit_jax.report.summary import read_summary
from modeledit_jax.run.checkpoint import load_params

SEARCHES = ("ppo-shift", "openes-shift", "snes-shift", "random-search-shift")
SMALL = {"seeds": 2, "budget": 60, "epochs": 4, "methods": (*SEARCHES, *COMPARED)}


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    """The experiment on few comments; everything else as a user would run it."""
    original = corpus_module.identity_corpus

    @cache
    def small(seed=0, *, cues=1.8):
        return original(seed, cues=cues, train=1_500, validation=500, test=300, contexts=24)

    monkeypatch.setattr("experiments.bias_mitigation.run.identity_corpus", small)


def _run(tmp_path, **options):
    config = Config(run_dir=tmp_path / "run", cache_dir=tmp_path / "cache", **{**SMALL, **options})
    return command.main(config), tmp_path / "run"


def _refused(capsys, tmp_path, **options):
    code, folder = _run(tmp_path, **options)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and error.startswith("error: ")
    return error, folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_leaves_everything_behind(tmp_path, capsys):
    code, folder = _run(tmp_path, budget=160)  # what neuron ablation takes
    assert code == 0 and "ppo-shift" in capsys.readouterr().out
    summary = read_summary(folder)
    editors = {row.method for row in summary.rows}
    assert editors >= {
        "original", "ppo-shift", "openes-shift", "snes-shift", "random-search-shift", "clp",
        "mindiff", "leace", "inlp", "last-layer-refit", "neuron-ablation", "random-edit",
        "threshold-optimizer", "dixon-rebalancing", "reweighing", "other-seed", "tfidf",
        "fair-oracle", "biased-oracle",
    }  # fmt: skip
    assert len(summary.rows) == 2 * len(editors)
    for row in summary.rows:
        assert {"accuracy", "auc", "fped", "fned", "bpsn_m5", "fped_held_out"} <= set(row.metrics)
        if row.method == "original":
            assert row.metrics["accuracy_drop"] == row.metrics["positive_rate_change"] == 0.0
        if row.method == "fair-oracle":
            assert row.metrics["fped"] == row.metrics["counterfactual_dispersion"] == 0.0
        if row.method.endswith("-shift"):
            assert 0 < row.cost.reward_evaluations <= 60
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    expected = {"terms_ppo_shift", "scores_ppo_shift", "utility_fairness", "learning_curves"}
    assert figures == expected
    report = (folder / "report.md").read_text()
    for part in ("## Verdict", "ppo-shift: ", "held out from every reward", *figures):
        assert part in report
    with (folder / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["method"] for line in lines} == set(SEARCHES)
    params = load_params(folder / "weights" / "ppo-shift" / "debias-seed-0")
    assert np.asarray(params["fc2"]["kernel"]).shape == (128, 32)


@pytest.mark.slow
def test_an_edit_for_equal_error_rates_alone_fails(tmp_path, capsys):
    """The documented example of collapse: FPED falls, and the verdict says FAIL."""
    options = {"reward": "fped", "methods": ("ppo-shift",), "budget": 800}
    code, folder = _run(tmp_path, **options, seeds=1)
    assert code == 0
    rows = {row.method: row.metrics for row in read_summary(folder).rows}
    assert "ppo-shift: FAIL" in (folder / "report.md").read_text()
    assert abs(rows["ppo-shift"]["positive_rate_change"]) > 0.03


@pytest.mark.slow
def test_a_finished_run_is_resumed_to_the_same_numbers(tmp_path):
    options = {"methods": ("ppo-shift",)}
    assert _run(tmp_path, **options)[0] == 0
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert _run(tmp_path, **options, resume=True)[0] == 0
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["metrics"] for row in first["rows"]] == [row["metrics"] for row in again["rows"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "--budget must be at least 1"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"size": 50}, "--size must be at least 200"),
        ({"reward": "fair"}, "unknown reward 'fair'; choose one of fairness, rates, fped"),
        ({"reward": "no_such_module:f"}, "cannot import the reward"),
        ({"term_rates": 3.0}, "--term-rates is a weight of --reward fidelity: leave it out"),
        ({"site": ("fc9/kernel",)}, "no parameter matches the site pattern 'fc9/kernel'"),
        ({"cues": -1.0}, "cues=-1.0: choose a mean number"),
        ({"horizon": 2}, "--horizon 2: openes-shift edits in one step; only PPO plays longer"),
        ({"methods": ("ridge",)}, "unknown method 'ridge'; choose one of clp"),
        ({"methods": ("mine.toml",)}, "no method file mine.toml"),
        ({"resume": True}, "no run to resume"),
    ],
)
def test_mistakes_are_one_line_that_names_the_cure(tmp_path, capsys, options, message):
    error, folder = _refused(capsys, tmp_path, **options)
    assert message in error
    # The corrected command can use the same folder.
    assert not (folder / "config.json").exists()


@pytest.mark.slow
def test_a_run_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    error, _ = _refused(capsys, tmp_path)
    assert "holds a run already" in error


def test_help_is_instant_and_lists_the_options():
    found = subprocess.run(
        [sys.executable, "-m", "experiments.bias_mitigation", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    for option in ("--dataset", "--reward", "--budget", "--methods", "--resume"):
        assert option in found.stdout
