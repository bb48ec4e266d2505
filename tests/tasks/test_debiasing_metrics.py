"""Report metrics and gates, with classifiers whose verdict is known beforehand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.evaluation.fairness_cards import METRIC_CARDS
from modeledit_jax.evaluation.fairness_report import fairness_metrics
from modeledit_jax.subjects.subject import predict
from modeledit_jax.tasks.debiasing import members
from modeledit_jax.tasks.debiasing_metrics import (
    TOLERATED,
    debiasing_metrics,
    evaluated_roles,
    fairness_curves,
    gates,
    labeled_scores,
    select_criterion,
    threshold,
)
from tests import tiny_comments


@pytest.fixture(scope="module")
def every_suite():
    return tiny_comments.task()


@pytest.fixture(scope="module")
def task(every_suite):
    """With one suite, as large as the test set: metrics of every other size take seconds."""
    kept = ("train", "reward", "select", "test", "templates_test")
    return replace(every_suite, roles={name: every_suite.roles[name] for name in kept})


@pytest.fixture(scope="module")
def original(task):
    apply, params = task.subject.apply, task.subject.params
    return {
        role: np.asarray(predict(apply, params, jnp.asarray(task.roles[role].x)))
        for role in evaluated_roles(task)
    }


def _changed(original, change):
    return {role: change(role, outputs) for role, outputs in original.items()}


def _fair(task, original):
    """Scores averaged within the blocks."""
    found = _changed(original, lambda role, outputs: outputs.copy())
    for role, outputs in found.items():
        blocks = task.roles[role].targets.blocks
        outputs[blocks, 0] = outputs[blocks, 0].mean(axis=1, keepdims=True)
    return found


def test_the_threshold_is_the_equal_error_rate_of_select(task, original):
    scores, label, _ = labeled_scores(task, original, "select", "comments")
    cut = threshold(task, original)
    fpr, fnr = (scores[label == 0] >= cut).mean(), (scores[label == 1] < cut).mean()
    gaps = [abs((scores[label == 0] >= s).mean() - (scores[label == 1] < s).mean()) for s in scores]
    np.testing.assert_allclose(abs(fpr - fnr), min(gaps), atol=1e-6)


@pytest.mark.slow
def test_metrics_are_those_of_the_sets(task, original):
    values = debiasing_metrics(task, original, original)
    cut = threshold(task, original)
    scores, label, _ = labeled_scores(task, original, "test", "comments")
    assert values["accuracy"] == pytest.approx(((scores >= cut) == label).mean())
    assert values["accuracy_drop"] == values["auc_drop"] == values["positive_rate_change"] == 0.0
    own = fairness_metrics(*labeled_scores(task, original, "test", "counterfactuals"), cut)
    assert values["fped"] == own["fped"] and values["template_fpr"] == own["fpr"]
    assert values["templates_test_fped"] > 0


def _on_select(task, scores):
    sets = task.roles["select"]
    targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
    return fairness_curves(jnp.asarray(scores)[:, None], targets, weights)


@pytest.mark.slow
def test_progress_on_a_role_is_measured_at_its_own_threshold(task, original):
    cut = threshold(task, original)
    own = fairness_metrics(*labeled_scores(task, original, "select", "counterfactuals"), cut)
    scores, label, _ = labeled_scores(task, original, "select", "comments")
    found = _on_select(task, original["select"][:, 0])
    for name in ("fped", "fned", "bpsn_m5"):
        np.testing.assert_allclose(found[name], own[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["accuracy"], ((scores >= cut) == label).mean(), atol=1e-6)


@pytest.mark.slow
def test_settings_are_chosen_by_bias_and_by_what_accuracy_costs(task, original):
    criterion, sets = select_criterion(task), task.roles["select"]
    fair = _fair(task, original)["select"][:, 0]
    noisy = fair.copy()
    noisy[members(sets, "comments")[::3]] *= -1.0  # a third of the comments the wrong way round
    unedited = original["select"][:, 0]
    before, values = _on_select(task, unedited)["accuracy"], []
    for scores in (unedited, fair, noisy):
        found = _on_select(task, scores)
        lost = max(float(before - found["accuracy"]) - TOLERATED, 0.0)
        values.append(criterion(jnp.asarray(scores), sets))
        expected = -float(found["fped"]) - float(found["fned"]) - 4.0 * lost
        assert values[-1] == pytest.approx(expected, abs=1e-5)
    assert values[1] > values[0] and values[2] < values[1] - 0.2


@pytest.mark.slow
def test_held_out_terms_are_averaged_apart(task, original):
    values, cut = debiasing_metrics(task, original, original), threshold(task, original)
    scores, label, groups = labeled_scores(task, original, "test", "counterfactuals")
    harmless = label == 0
    overall = (scores[harmless] >= cut).mean()
    gaps = [
        abs((scores[harmless & (groups[:, t] > 0)] >= cut).mean() - overall)
        for t in np.flatnonzero(task.held_out)
    ]
    assert values["fped_held_out"] == pytest.approx(np.mean(gaps), abs=1e-6)


def test_the_unedited_classifier_gains_exactly_nothing_and_fails(task, original):
    values = debiasing_metrics(task, original, original)
    found = {gate.name.split(" by ")[0]: gate for gate in gates(values, values)}
    failed = [name for name, gate in found.items() if not gate.passed]
    assert failed == ["FPED at the classifier's own threshold falls", "BPSN AUC rises"]
    assert all(gate.measured == 0.0 for gate in found.values())


@pytest.mark.parametrize("shift", [-1.5, 1.5])
def test_a_shift_of_the_threshold_gains_exactly_nothing_and_fails(task, original, shift):
    moved = _changed(original, lambda role, outputs: outputs + np.float32(shift))
    values = debiasing_metrics(task, moved, original)
    before = debiasing_metrics(task, original, original)
    # Rounding of the sum may make or break a tie, no more.
    assert values["fped"] == pytest.approx(before["fped"], abs=0.01)
    checks = gates(values, before)
    assert not checks[0].passed and abs(values["positive_rate_change"]) > 0.03


@pytest.mark.slow
def test_calling_nothing_toxic_fails(task, original):
    rng = np.random.default_rng(0)
    collapsed = _changed(
        original, lambda role, outputs: (rng.normal(size=outputs.shape) - 100).astype(np.float32)
    )
    values = debiasing_metrics(task, collapsed, original)
    checks = gates(values, debiasing_metrics(task, original, original))
    assert not checks[0].passed and not checks[3].passed
    assert values["positive_rate_change"] < -0.3 and values["accuracy_drop"] > 0.2


@pytest.mark.slow
def test_a_classifier_that_ignores_the_term_passes(task, original):
    fair = _fair(task, original)
    values = debiasing_metrics(task, fair, original)
    assert values["fped"] == values["fned"] == 0.0
    assert values["counterfactual_dispersion"] == pytest.approx(0.0, abs=1e-9)
    assert all(gate.passed for gate in gates(values, debiasing_metrics(task, original, original)))


def test_suites_have_the_set_of_their_rows(every_suite):
    suites = evaluated_roles(every_suite)[2:]
    assert len(suites) == 4
    for suite in suites:
        sets = every_suite.roles[suite]
        assert len(members(sets, "counterfactuals")) == len(sets.x)


def test_every_number_has_a_card(task, original):
    found = debiasing_metrics(task, original, original)
    names = {card.name for card in METRIC_CARDS}
    prefixes = ("template_", "comments_", *(f"{suite}_" for suite in evaluated_roles(task)[2:]))
    for name in found:
        bare = next((name.removeprefix(p) for p in prefixes if name.startswith(p)), name)
        assert bare in names, name
    assert names - {"fpr", "fnr", "evaluations_to_target"} <= set(found)
