"""What a report on real comments says of one classifier, suite by suite, and the gates on it.

Suites of counterfactual contexts stand beside plain comments. On every one of them an edit has to
leave the error rates where they were: a level shift of all texts that name people lowers FPED, for
equal rates near zero are equal, and is no less biased.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.evaluation.auc import auc, group_aucs
from modeledit_jax.evaluation.context_bootstrap import STATISTICS, BlockScores
from modeledit_jax.evaluation.fairness import (
    equal_error_threshold,
    equality_differences,
    error_rates,
    power_mean,
)
from modeledit_jax.tasks.debiasing import CommentTargets, DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import (
    Gate,
    Outputs,
    evaluated_roles,
    labeled_scores,
    threshold,
)
from modeledit_jax.types import Array

RATE_MARGIN = 0.02
"""Largest change of a false positive or false negative rate on any suite."""
ACCURACY_MARGIN = 0.01
"""Largest loss of balanced accuracy on test comments."""
AUC_MARGIN = 0.005
"""Largest loss of AUC on test comments and on the fuzzed ones."""
WINDOWS = "windows"
"""What the counterfactuals of ``test`` are called beside the suites."""


def block_suites(task: DebiasingTask) -> dict[str, str]:
    """Suites of counterfactual contexts: the role of each by its name."""
    names = {WINDOWS if role == "test" else role: role for role in evaluated_roles(task)[1:]}
    return {n: role for n, role in names.items() if task.roles[role].targets.blocks.size}


def block_scores(
    task: DebiasingTask, outputs: Outputs, suite: str, held_out: bool = False
) -> BlockScores:
    """Scores of a classifier on a suite of `block_suites`.

    Args:
      task: the debiasing task.
      outputs: logits of the classifier.
      suite: its name.
      held_out: whether FPED, FNED and dispersion are of the held-out terms alone.
    """
    role = block_suites(task)[suite]
    targets = task.roles[role].targets
    blocks = np.asarray(targets.blocks)
    terms = np.asarray(targets.groups)[blocks[0]].argmax(axis=1)
    columns = np.asarray(task.held_out)[terms] if held_out else np.ones(len(terms), bool)
    comments = labeled_scores(task, outputs, "test", "comments")[0]
    return BlockScores(
        scores=np.asarray(outputs[role], np.float64)[blocks, 0],
        label=np.asarray(targets.label)[blocks[:, 0]],
        threshold=threshold(task, outputs),
        variance=float(np.var(comments, dtype=np.float64)),
        columns=columns,
    )


def suite_metrics(task: DebiasingTask, outputs: Outputs) -> dict[str, float]:
    """Metrics of one classifier at the threshold of its own equal error rate on ``select``.

    Returns:
      ``accuracy`` (balanced: 1 − mean of the error rates) and ``auc`` on comments of ``test``; of
      every suite of contexts its `STATISTICS`, with the suffix ``_held_out`` over these terms;
      of every suite ``fpr``, ``fnr`` and, where it has both labels, ``auc``; ``bpsn_m5`` where it
      has blocks besides. Names begin with that of the suite; ``test_`` is of the comments.
    """
    values: dict[str, float] = {}
    suites = block_suites(task)
    for name in suites:
        for held_out in (False, True):
            found = block_scores(task, outputs, name, held_out)
            if not found.columns.any():  # a suite without held-out terms
                continue
            once = [np.ones((1, int((found.label == label).sum())), int) for label in (0, 1)]
            statistics = dict(zip(STATISTICS, found.statistics(once)[0].tolist(), strict=True))
            for kind in STATISTICS[:3] if held_out else STATISTICS:
                values[f"{name}_{kind}{'_held_out' if held_out else ''}"] = statistics[kind]
        if found.label.any():
            values[f"{name}_bpsn_m5"] = _bpsn(task, outputs, suites[name])
    cut = threshold(task, outputs)
    plain = [role for role in evaluated_roles(task)[2:] if role not in suites.values()]
    for role, kind in (("test", "comments"), *((role, "counterfactuals") for role in plain)):
        scores, label, groups = labeled_scores(task, outputs, role, kind)
        rates = _rates(*map(jnp.asarray, (scores, label, groups, cut)))
        values |= {f"{role}_{name}": float(value) for name, value in rates.items()}
    values["auc"] = values.pop("test_auc")
    values["accuracy"] = 1.0 - (values["test_fpr"] + values["test_fnr"]) / 2
    return values


@jax.jit
def _rates(scores: Array, label: Array, groups: Array, cut: Array) -> dict[str, Array]:
    found = error_rates(scores, label, groups, cut)
    return {"fpr": found.fpr, "fnr": found.fnr, "auc": auc(scores, label)}


def _bpsn(task: DebiasingTask, outputs: Outputs, role: str) -> float:
    found = _group_aucs(*map(jnp.asarray, labeled_scores(task, outputs, role, "counterfactuals")))
    return float(power_mean(found.bpsn))


_group_aucs = jax.jit(group_aucs)


def suite_curves(
    outputs: Float[Array, "n 1"], targets: CommentTargets, weights: Mapping[str, Array]
) -> dict[str, Array]:
    """Progress of an edit on one role, at the equal error rate of the role's own comments.

    Pure, for `jax.jit`: ``accuracy`` (balanced) and ``auc`` on comments; ``dispersion`` in units of
    the variance there, ``fpr``, ``fnr``, ``fped``, ``fned`` on counterfactuals.
    """
    scores, comments = outputs[:, 0], weights["comments"]
    cut = equal_error_threshold(scores, targets.label, comments)
    rates = error_rates(scores, targets.label, targets.groups, cut, weights["counterfactuals"])
    own = error_rates(scores, targets.label, targets.groups, cut, comments)
    differences = equality_differences(rates)
    mean = jnp.average(scores, weights=comments)
    variance = jnp.average(jnp.square(scores - mean), weights=comments)
    blocks = scores[targets.blocks]
    return {
        "accuracy": 1.0 - (own.fpr + own.fnr) / 2,
        "auc": auc(scores, targets.label, comments),
        "dispersion": jnp.var(blocks, axis=1).mean() / variance,
        "fpr": rates.fpr,
        "fnr": rates.fnr,
        "fped": differences.fped,
        "fned": differences.fned,
    }


def suite_gates(values: Mapping[str, float], original: Mapping[str, float]) -> list[Gate]:
    """The gates; means over networks are judged, one failure fails the edit.

    Args:
      values: `suite_metrics` of the edited classifier, e.g. means over networks.
      original: the same of the unedited one.
    """
    change = {name: values[name] - original[name] for name in original}
    checks = []
    for name, moved in change.items():
        suite, _, rate = name.rpartition("_")
        if rate in ("fpr", "fnr") and np.isfinite(original[name]):
            kind = "false positive" if rate == "fpr" else "false negative"
            about = f"{kind} rate on {suite} changes by at most"
            checks.append(Gate(about, bool(abs(moved) <= RATE_MARGIN), moved, RATE_MARGIN))
    lost = -change["accuracy"]
    about = "balanced accuracy on test comments falls by at most"
    checks.append(Gate(about, bool(lost <= ACCURACY_MARGIN), lost, ACCURACY_MARGIN))
    for name, about in (("auc", "test"), ("fuzzed_auc", "fuzzed")):
        if name in change:
            lost = -change[name]
            about = f"AUC on {about} comments falls by at most"
            checks.append(Gate(about, bool(lost <= AUC_MARGIN), lost, AUC_MARGIN))
    suite = "madlibs" if "madlibs_bpsn_m5" in change else WINDOWS
    rise = change[f"{suite}_bpsn_m5"]
    checks.append(Gate(f"BPSN AUC on {suite} rises by more than", bool(rise > 0), rise, 0.0))
    return checks


def mean_metrics(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over networks."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
