"""Gains of an edit over the network it edits, paired by network, with intervals; the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.common.methods import Result
from modeledit_jax.evaluation.block_bootstrap import paired_block_bootstrap
from modeledit_jax.evaluation.statistics import Interval, holm, mean_interval
from modeledit_jax.imports import executed_at_first_use
from modeledit_jax.report.aggregates import paired
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import Gate, Outputs, gates, threshold

with executed_at_first_use("scipy.stats"):
    import scipy.stats

PRIMARY = ("fped", "fned", "bpsn_m5", "bnsp_m5")
"""Metrics that are tested, with Holm's correction for their number."""


@dataclass(frozen=True)
class Gains:
    """What a method changed, mean over networks with 95 % intervals.

    Relative changes are fractions of the value before (−0.5 = halved) and absolute ones are
    fractions; error rates are at each network's own threshold.
    """

    fped: Interval  # relative, blocks and networks drawn anew
    fned: Interval  # absolute, likewise
    fped_held_out: Interval | None  # relative, over the held-out terms
    accuracy_drop: Interval  # over networks, t-interval
    auc_drop: Interval
    bpsn: Interval
    p_values: Mapping[str, float]  # of `PRIMARY`, Wilcoxon, corrected by Holm


def gains(
    tasks: Sequence[DebiasingTask],
    before: Result,
    after: Result,
    rows_before: Sequence[Row],
    rows_after: Sequence[Row],
) -> Gains:
    """Compares a method with the unedited networks.

    Args:
      tasks: one per network.
      before, after: outputs of the unedited and of the edited networks.
      rows_before, rows_after: their metrics.
    """
    wrong = {
        label: [
            [
                misclassified(task, outputs, label)
                for task, outputs in zip(tasks, result.outputs, strict=True)
            ]
            for result in (before, after)
        ]
        for label in (0, 1)
    }
    held_out = np.asarray(tasks[0].held_out)[block_terms(tasks[0])]
    change = {
        name: paired(rows_after, rows_before, name).ravel()
        for name in (*PRIMARY, "accuracy", "auc")
    }
    return Gains(
        fped=paired_block_bootstrap(*wrong[0], relative=True),
        fned=paired_block_bootstrap(*wrong[1]),
        fped_held_out=(
            paired_block_bootstrap(*wrong[0], columns=held_out, relative=True)
            if held_out.any()
            else None
        ),
        accuracy_drop=mean_interval(-change["accuracy"]),
        auc_drop=mean_interval(-change["auc"]),
        bpsn=mean_interval(change["bpsn_m5"]),
        p_values=_tests(change),
    )


def block_terms(task: DebiasingTask) -> np.ndarray:
    """The identity term of every column of the test blocks; terms of several words have none."""
    targets = task.roles["test"].targets
    return targets.groups[targets.blocks[0]].argmax(axis=1)


def misclassified(task: DebiasingTask, outputs: Outputs, label: int) -> np.ndarray:
    """Of the test blocks of one label ``[K, V]``, which comments the classifier gets wrong."""
    sets = task.roles["test"]
    blocks = np.asarray(sets.targets.blocks)
    chosen = blocks[sets.targets.label[blocks[:, 0]] == label]
    toxic = np.asarray(outputs["test"])[chosen, 0] >= threshold(task, outputs)
    return toxic if label == 0 else ~toxic


def verdict(gain: Gains, after: Sequence[Row], before: Sequence[Row]) -> tuple[str, list[Gate]]:
    """``"PASS"``, ``"FAIL"`` or ``"NOT SHOWN"``, and the gates.

    An edit fails if a gate fails on the means over networks. It passes if, besides, FPED falls and
    FNED does not rise beyond what the intervals leave open.
    """
    means = [
        {name: float(np.mean([row.metrics[name] for row in rows])) for name in rows[0].metrics}
        for rows in (after, before)
    ]
    checks = gates(*means)
    if not all(gate.passed for gate in checks):
        return "FAIL", checks
    shown = gain.fped.high < 0 and gain.fned.point <= 0
    return ("PASS" if shown else "NOT SHOWN"), checks


def _tests(change: Mapping[str, np.ndarray]) -> dict[str, float]:
    raw = [
        float(scipy.stats.wilcoxon(change[name]).pvalue) if change[name].any() else 1.0
        for name in PRIMARY
    ]
    return dict(zip(PRIMARY, holm(raw).tolist(), strict=True))
