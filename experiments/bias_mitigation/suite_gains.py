"""What an edit changes on every suite of real contexts, with intervals; the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from experiments.bias_mitigation.real import RealSetup
from experiments.common.methods import Result
from modeledit_jax.evaluation.context_bootstrap import Changes, changes, resample
from modeledit_jax.evaluation.statistics import Interval
from modeledit_jax.tasks.debiasing_metrics import Gate
from modeledit_jax.tasks.debiasing_suites import WINDOWS, block_scores, block_suites, suite_gates

CONTROL = "other-seed"
"""Another training of the same network: what an edit has to differ from."""

COMPARED = ("dispersion", "fped")
"""On windows, what an edit has to lower by more than the control."""

SuiteChanges = Mapping[str, Mapping[str, Changes]]
"""``{suite: {statistic: change}}``; ``held_out`` is a suffix of statistics."""


@dataclass(frozen=True)
class SuiteStatistics:
    """The statistics of all classifiers on all suites, resampled once.

    Attributes:
      setup: folds and networks.
      results: of all methods, by name, the unedited networks (``"original"``) among them.
    """

    setup: RealSetup
    results: Mapping[str, Result]

    @cached_property
    def suites(self) -> tuple[str, ...]:
        """Names of the suites with contexts."""
        return tuple(block_suites(self.setup.tasks[0]))

    def _sampled(self, method: str, suite: str, held_out: bool) -> np.ndarray:
        networks = len(self.setup.seeds)
        outputs = self.results[method].outputs
        scores = [
            [
                block_scores(task, outputs[fold * networks + seed], suite, held_out)
                for fold, task in enumerate(self.setup.tasks[seed::networks])
            ]
            for seed in range(networks)
        ]
        return resample(scores)

    @cached_property
    def _before(self) -> dict[tuple[str, bool], np.ndarray]:
        return {
            (suite, held_out): self._sampled("original", suite, held_out)
            for suite in self.suites
            for held_out in (False, True)
            if not held_out or self._has_held_out(suite)
        }

    def _has_held_out(self, suite: str) -> bool:
        outputs = self.results["original"].outputs
        pairs = zip(self.setup.tasks, outputs, strict=True)
        return all(block_scores(*pair, suite, held_out=True).columns.any() for pair in pairs)

    def changes_of(self, method: str) -> SuiteChanges:
        """Changes by a method, of all terms and of the held-out ones (``fped_held_out``)."""
        found: dict[str, dict[str, Changes]] = {suite: {} for suite in self.suites}
        for (suite, held_out), before in self._before.items():
            after = self._sampled(method, suite, held_out)
            own = changes(before, after)
            suffix = "_held_out" if held_out else ""
            found[suite] |= {f"{name}{suffix}": change for name, change in own.items()}
        return found


def against(change: SuiteChanges, control: SuiteChanges) -> dict[str, Interval]:
    """`COMPARED` on windows: change by an edit minus change by the control, in the same draws."""
    return {
        name: change[WINDOWS][name].less(control[WINDOWS][name]).interval() for name in COMPARED
    }


def suite_verdict(
    after: Mapping[str, float],
    before: Mapping[str, float],
    versus: Mapping[str, Interval] | None,
) -> tuple[str, list[Gate]]:
    """``"PASS"``, ``"FAIL"`` or ``"NOT SHOWN"``, and the gates.

    An edit fails if a gate fails on the means over networks and folds. It passes if, besides, it
    lowers dispersion and FPED on windows by more than another seed beyond what intervals leave
    open; without that control nothing is shown.

    Args:
      after, before: mean metrics (`debiasing_suites.mean_metrics`).
      versus: of `against`; None: the control did not run.
    """
    checks = suite_gates(after, before)
    if not all(gate.passed for gate in checks):
        return "FAIL", checks
    shown = versus is not None and all(interval.high < 0 for interval in versus.values())
    return ("PASS" if shown else "NOT SHOWN"), checks


def worst_rate(after: Mapping[str, float], before: Mapping[str, float]) -> tuple[str, float]:
    """The error rate on a suite that was moved furthest, and by how much."""
    moved = {
        name: after[name] - before[name]
        for name in before
        if name.endswith(("_fpr", "_fnr")) and np.isfinite(before[name])
    }
    worst = max(moved, key=lambda name: abs(moved[name]))
    return worst, moved[worst]
