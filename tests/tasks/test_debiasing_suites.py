"""Metrics of suites against NumPy and scikit-learn; gates by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from modeledit_jax.evaluation.fairness import equal_error_threshold
from modeledit_jax.tasks.debiasing_suites import (
    block_scores,
    block_suites,
    mean_metrics,
    suite_curves,
    suite_gates,
    suite_metrics,
)
from modeledit_jax.tasks.outputs import role_outputs
from tests import tiny_comments


@pytest.fixture(scope="module")
def outputs():
    task = tiny_comments.task()
    roles = ("select", "test", *(r for r in task.roles if r not in _ROLES))
    return role_outputs(task, task.subject.params, roles)


_ROLES = ("train", "reward", "select", "test")


def test_metrics_of_comments_and_windows(outputs):
    task = tiny_comments.task()
    found = suite_metrics(task, outputs)
    select, test = task.roles["select"], task.roles["test"]
    plain = np.flatnonzero(select.weights["comments"])
    cut = float(equal_error_threshold(jnp.asarray(outputs["select"][plain, 0]),
                                      jnp.asarray(select.label[plain])))  # fmt: skip
    rows = np.flatnonzero(test.weights["comments"])
    scores, label = outputs["test"][rows, 0], test.label[rows]
    called = scores >= cut
    fpr, fnr = called[label == 0].mean(), (~called)[label == 1].mean()
    assert found["test_fpr"] == pytest.approx(fpr) and found["test_fnr"] == pytest.approx(fnr)
    assert found["accuracy"] == pytest.approx(1 - (fpr + fnr) / 2)
    assert found["auc"] == pytest.approx(roc_auc_score(label, scores), abs=1e-5)
    blocks = outputs["test"][np.asarray(test.targets.blocks), 0].astype(float)
    dispersion = blocks.var(axis=1).mean() / scores.astype(float).var()
    assert found["windows_dispersion"] == pytest.approx(dispersion, rel=1e-5)
    hidden = np.asarray(task.held_out)
    terms = test.targets.groups[test.targets.blocks[0]].argmax(axis=1)
    own = blocks[:, hidden[terms]].var(axis=1).mean() / scores.astype(float).var()
    assert found["windows_dispersion_held_out"] == pytest.approx(own, rel=1e-5)
    assert set(block_suites(task)) >= {"windows", "swapped_test"}
    assert block_scores(task, outputs, "windows").columns.all()


def test_nothing_changes_for_an_unedited_classifier(outputs):
    task = tiny_comments.task()
    found = suite_metrics(task, outputs)
    checks = suite_gates(found, found)
    assert [gate.name for gate in checks if not gate.passed] == [
        "BPSN AUC on windows rises by more than"
    ]


def test_a_level_shift_of_all_texts_about_people_is_caught(outputs):
    task = tiny_comments.task()
    moved = dict(outputs)
    rows = np.asarray(task.roles["test"].weights["counterfactuals"], np.float32)[:, None]
    moved["test"] = outputs["test"] - 2.0 * rows
    before, after = suite_metrics(task, outputs), suite_metrics(task, moved)
    failed = [gate.name for gate in suite_gates(after, before) if not gate.passed]
    assert any("on windows changes" in name for name in failed)
    assert not any("AUC on test" in name or "balanced" in name for name in failed)


def test_gates_by_hand():
    before = {"accuracy": 0.9, "auc": 0.95, "fuzzed_auc": 0.9, "madlibs_bpsn_m5": 0.5,
              "windows_fpr": 0.2, "windows_fnr": np.nan, "test_fpr": 0.1}  # fmt: skip
    good = before | {"auc": 0.9451, "windows_fpr": 0.181, "accuracy": 0.8901,
                     "madlibs_bpsn_m5": 0.51, "fuzzed_auc": 0.92}  # fmt: skip
    assert all(gate.passed for gate in suite_gates(good, before))
    assert len(suite_gates(good, before)) == 6  # the rate that is not defined is none
    for name, value in (("auc", 0.944), ("fuzzed_auc", 0.894), ("windows_fpr", 0.17),
                        ("test_fpr", 0.13), ("accuracy", 0.889),
                        ("madlibs_bpsn_m5", 0.5)):  # fmt: skip
        failed = [gate for gate in suite_gates(good | {name: value}, before) if not gate.passed]
        assert len(failed) == 1, name
    assert mean_metrics([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}


def test_curves_are_the_metrics_of_the_role(outputs):
    task = tiny_comments.task()
    sets = task.roles["select"]
    targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
    found = jax.jit(suite_curves)(jnp.asarray(outputs["select"]), targets, weights)
    rows = np.flatnonzero(sets.weights["comments"])
    scores, label = outputs["select"][rows, 0], sets.label[rows]
    blocks = outputs["select"][np.asarray(sets.targets.blocks), 0]
    np.testing.assert_allclose(
        found["dispersion"], blocks.var(axis=1).mean() / scores.var(), rtol=1e-4
    )
    np.testing.assert_allclose(found["auc"], roc_auc_score(label, scores), atol=1e-5)
    cut = float(equal_error_threshold(jnp.asarray(scores), jnp.asarray(label)))
    called = scores >= cut
    balanced = 1 - (called[label == 0].mean() + (~called)[label == 1].mean()) / 2
    np.testing.assert_allclose(found["accuracy"], balanced, atol=1e-5)
