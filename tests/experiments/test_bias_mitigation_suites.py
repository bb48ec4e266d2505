"""Gains on suites of real contexts and their verdict, from made-up scores."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.bias_mitigation import suite_gains as module
from experiments.bias_mitigation.suite_gains import (
    SuiteStatistics,
    against,
    suite_verdict,
    worst_rate,
)
from experiments.bias_mitigation.suite_text import Comparison, _changes_tables
from experiments.common.methods import Result
from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.context_bootstrap import BlockScores
from modeledit_jax.evaluation.statistics import Interval

RNG = np.random.default_rng(0)
BASE = RNG.normal(size=(2, 40, 6))  # of two networks
LABEL = np.arange(40) % 2


def _shrunk(scores, factor):
    mean = scores.mean(axis=-1, keepdims=True)
    return mean + factor * (scores - mean)


@pytest.fixture
def statistics(monkeypatch):
    """Two networks × two folds; outputs are scores ``[K, V]`` themselves."""

    def block(task, outputs, suite, held_out=False):
        columns = np.arange(6) % 2 == task.fold if held_out else np.ones(6, bool)
        return BlockScores(outputs[suite], LABEL, 0.0, 1.0, columns)

    monkeypatch.setattr(module, "block_scores", block)
    monkeypatch.setattr(module, "block_suites", lambda task: {"windows": "test"})
    tasks = [SimpleNamespace(fold=fold) for fold in (0, 1) for _ in range(2)]
    setup = SimpleNamespace(seeds=[0, 1], tasks=tasks)
    factors = {"original": 1.0, "good": 0.5, "other-seed": 0.99}
    results = {
        name: Result(
            name,
            [{"windows": _shrunk(BASE[i % 2], factor)} for i in range(4)],
            [Cost()] * 4,
        )
        for name, factor in factors.items()
    }
    return SuiteStatistics(setup, results)


def test_changes_are_paired_with_networks_and_folds(statistics):
    found = statistics.changes_of("good")["windows"]
    for name in ("dispersion", "dispersion_held_out"):
        interval = found[name].interval()
        np.testing.assert_allclose(interval, -0.75)  # half the deviation, whatever is drawn
    versus = against(statistics.changes_of("good"), statistics.changes_of("other-seed"))
    assert versus["dispersion"].high < -0.7
    nothing = against(statistics.changes_of("good"), statistics.changes_of("good"))
    assert nothing["fped"] == Interval(0.0, 0.0, 0.0)


def test_a_suite_without_a_held_out_term_has_a_dash_in_the_report(statistics, monkeypatch):
    """As the templates of a file that names none of them."""
    whole = module.block_scores

    def block(task, outputs, suite, held_out=False):
        found = whole(task, outputs, suite, held_out)
        return replace(found, columns=np.zeros(6, bool)) if held_out else found

    monkeypatch.setattr(module, "block_scores", block)
    changed = {"good": statistics.changes_of("good")}
    lines = _changes_tables(Comparison({}, changed, None, ()))
    (row,) = [line for line in lines if line.startswith("| good")]
    assert [cell.strip() for cell in row.split("|")][3] == "–" and "−75" in row


def test_verdicts():
    before = {"accuracy": 0.9, "auc": 0.9, "windows_bpsn_m5": 0.5, "windows_fpr": 0.2,
              "wikipedia_fnr": np.nan}  # fmt: skip
    after = before | {"windows_bpsn_m5": 0.6, "windows_fpr": 0.19}
    better = {"dispersion": Interval(-0.5, -0.6, -0.1), "fped": Interval(-0.4, -0.5, -0.1)}
    unclear = better | {"fped": Interval(-0.4, -0.9, 0.1)}
    assert suite_verdict(after, before, better)[0] == "PASS"
    assert suite_verdict(after, before, unclear)[0] == "NOT SHOWN"
    assert suite_verdict(after, before, None)[0] == "NOT SHOWN"
    assert suite_verdict(after | {"windows_fpr": 0.1}, before, better)[0] == "FAIL"
    name, moved = worst_rate(after | {"windows_fpr": 0.1}, before)
    assert name == "windows_fpr" and moved == pytest.approx(-0.1)
