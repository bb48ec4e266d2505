"""The metrics of a bias-mitigation report, computed from logits, and the gates against gaming.

The threshold of a classifier is that of its equal error rate on the plain comments of ``select``,
found anew for every classifier and then kept for the test sets: a shift of all scores moves it
along and earns nothing. What an edit does at the *old* threshold is a gate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.evaluation.auc import group_aucs
from modeledit_jax.evaluation.fairness import (
    equal_error_threshold,
    equality_differences,
    error_rates,
    power_mean,
)
from modeledit_jax.evaluation.fairness_report import fairness_metrics, per_term
from modeledit_jax.tasks.debiasing import ADDED, CommentTargets, DebiasingTask, members
from modeledit_jax.tasks.task import ROLES, EvaluationSets, Task
from modeledit_jax.types import Array

Outputs = Mapping[str, np.ndarray]
"""Logits ``[N, 1]`` of one classifier by role or suite."""

RATE_MARGIN = 0.03
"""Largest change of the share of comments called toxic at the old threshold."""
TEMPLATE_MARGIN = 0.02
"""Largest rise of an overall error rate on the counterfactuals."""
ACCURACY_MARGIN = 0.01
"""Largest loss of accuracy on comments."""


TOLERATED = 0.005
"""Loss of accuracy on ``select`` that costs an edit nothing in `select_criterion`."""


def fairness_curves(
    outputs: Float[Array, "n 1"], targets: CommentTargets, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Progress of an edit on one role, at the equal error rate of the role's own comments.

    Pure, for `jax.jit`: ``fped``, ``fned``, ``bpsn_m5`` on counterfactuals, ``accuracy``.
    """
    scores, comments = outputs[:, 0], weights["comments"]
    cut = equal_error_threshold(scores, targets.label, comments)
    counterfactuals = weights["counterfactuals"]
    rates = error_rates(scores, targets.label, targets.groups, cut, counterfactuals)
    differences = equality_differences(rates)
    aucs = group_aucs(scores, targets.label, targets.groups, counterfactuals)
    return {
        "fped": differences.fped,
        "fned": differences.fned,
        "bpsn_m5": power_mean(aucs.bpsn),
        "accuracy": error_rates(scores, targets.label, targets.groups, cut, comments).accuracy,
    }


_fairness_curves = jax.jit(fairness_curves)


def select_criterion(task: Task) -> Callable[[Array, EvaluationSets], float]:
    """What settings are chosen by: ``−FPED − FNED − 4 · max(accuracy lost − TOLERATED, 0)``.

    Returns:
      ``(scores [N], sets of the select role) -> value``, higher is better.
    """

    def on_select(scores: Array, sets: EvaluationSets) -> dict[str, float]:
        targets, weights = jax.tree.map(jnp.asarray, (sets.targets, dict(sets.weights)))
        found = _fairness_curves(jnp.asarray(scores)[:, None], targets, weights)
        return {name: float(value) for name, value in found.items()}

    sets = task.roles["select"]
    apply = jax.jit(task.subject.apply)
    outputs = apply(task.subject.params, jnp.asarray(sets.x))
    before = on_select(outputs[:, 0], sets)

    def criterion(scores: Array, sets: EvaluationSets) -> float:
        after = on_select(scores, sets)
        lost = max(before["accuracy"] - after["accuracy"] - TOLERATED, 0.0)
        return -after["fped"] - after["fned"] - 4.0 * lost

    return criterion


def evaluated_roles(task: DebiasingTask) -> tuple[str, ...]:
    """Roles and suites whose outputs `debiasing_metrics` reads."""
    suites = [name for name in task.roles if name not in ROLES and not name.startswith(ADDED)]
    return ("select", "test", *suites)


def threshold(task: DebiasingTask, outputs: Outputs) -> float:
    """Logit at the equal error rate of a classifier on the comments of ``select``."""
    scores, label, _ = labeled_scores(task, outputs, "select", "comments")
    return float(equal_error_threshold(jnp.asarray(scores), jnp.asarray(label)))


def labeled_scores(
    task: DebiasingTask, outputs: Outputs, role: str, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores ``[n]``, labels ``[n]`` and groups ``[n, I]`` of one set of a role."""
    sets = task.roles[role]
    chosen = members(sets, name)
    targets = sets.targets
    return (
        np.asarray(outputs[role])[chosen, 0],
        targets.label[chosen],
        targets.groups[chosen],
    )


def debiasing_metrics(task: DebiasingTask, outputs: Outputs, original: Outputs) -> dict[str, float]:
    """Returns the report's metrics of one classifier.

    Args:
      task: the debiasing task.
      outputs: logits of the edited classifier for `evaluated_roles`.
      original: the same of the unedited one.

    Returns:
      On the comments of ``test``: ``accuracy``, ``auc``, their drops, ``positive_rate_change`` (at
      the old threshold), and the fairness metrics with the prefix ``comments_``. On its
      counterfactuals: the names of `fairness_report.fairness_metrics`, with ``template_`` before
      ``auc``, ``accuracy``, ``fpr``, ``fnr`` and ``ece``; the suffix ``_held_out`` marks means over
      the terms that were held out. Suites have their name as prefix.
    """
    cut, old_cut = threshold(task, outputs), threshold(task, original)
    comments = fairness_metrics(*labeled_scores(task, outputs, "test", "comments"), cut)
    before = fairness_metrics(*labeled_scores(task, original, "test", "comments"), old_cut)
    values = {name: comments[name] for name in ("accuracy", "auc", "ece")}
    values |= {f"{name}_drop": before[name] - comments[name] for name in ("accuracy", "auc")}
    values["positive_rate_change"] = _positive_rate(task, outputs, old_cut) - _positive_rate(
        task, original, old_cut
    )
    found = set_metrics(task, outputs, "test", cut)
    renamed = {name: f"template_{name}" for name in ("auc", "accuracy", "fpr", "fnr", "ece")}
    values |= {renamed.get(name, name): value for name, value in found.items()}
    shown = ("bpsn_m5", "bnsp_m5", "subgroup_m5", "kaggle_score", "worst_group_accuracy")
    values |= {f"comments_{name}": comments[name] for name in shown}
    for suite in evaluated_roles(task)[2:]:
        found = set_metrics(task, outputs, suite, cut)
        values |= {f"{suite}_{name}": value for name, value in found.items()}
    return values


def set_metrics(task: DebiasingTask, outputs: Outputs, role: str, cut: float) -> dict[str, float]:
    """Fairness metrics on the counterfactuals of a role or suite, over all and held-out terms."""
    scores, label, groups = labeled_scores(task, outputs, role, "counterfactuals")
    sets = task.roles[role]
    offset = members(sets, "counterfactuals")[0]
    blocks = np.asarray(sets.targets.blocks) - offset
    values = fairness_metrics(scores, label, groups, cut, blocks=blocks)
    held_out = np.asarray(task.held_out)
    if held_out.any():
        values |= _held_out(scores, label, groups[:, held_out], cut, values)
    return values


def _held_out(
    scores: np.ndarray,
    label: np.ndarray,
    groups: np.ndarray,
    cut: float,
    overall: Mapping[str, float],
) -> dict[str, float]:
    """FPED, FNED and power mean of BPSN over the held-out terms alone."""
    terms = per_term(scores, label, groups, cut)
    return {
        "fped_held_out": _mean(np.abs(terms["fpr"] - overall["fpr"])),
        "fned_held_out": _mean(np.abs(terms["fnr"] - overall["fnr"])),
        "bpsn_m5_held_out": float(power_mean(jnp.asarray(terms["bpsn_auc"]))),
    }


def _mean(values: Float[np.ndarray, " i"]) -> float:
    """Mean of what is defined."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _positive_rate(task: DebiasingTask, outputs: Outputs, cut: float) -> float:
    scores, _, _ = labeled_scores(task, outputs, "select", "comments")
    return float((scores >= cut).mean())


@dataclass(frozen=True)
class Gate:
    """One check that a gain in fairness is real."""

    name: str
    passed: bool
    measured: float
    limit: float


def gates(values: Mapping[str, float], original: Mapping[str, float]) -> list[Gate]:
    """The gates against gaming; means over networks are judged, one failure fails the edit.

    Args:
      values: metrics of the edited classifier (`debiasing_metrics`), e.g. means over networks.
      original: the same of the unedited one.
    """
    change = {name: values[name] - original[name] for name in original if name in values}
    limits = (
        ("share of comments called toxic at the old threshold changes by at most",
         abs(values["positive_rate_change"]), RATE_MARGIN),
        ("false positive rate on counterfactuals rises by at most",
         change["template_fpr"], TEMPLATE_MARGIN),
        ("false negative rate on counterfactuals rises by at most",
         change["template_fnr"], TEMPLATE_MARGIN),
        ("accuracy on comments falls by at most", values["accuracy_drop"], ACCURACY_MARGIN),
    )  # fmt: skip
    checks = [Gate(name, bool(found <= limit), found, limit) for name, found, limit in limits]
    gains = (
        ("FPED at the classifier's own threshold falls by more than", -change["fped"]),
        ("BPSN AUC rises by more than", change["bpsn_m5"]),
    )
    return checks + [Gate(name, bool(found > 0), found, 0.0) for name, found in gains]
