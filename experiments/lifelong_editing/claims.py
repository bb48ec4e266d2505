"""What the papers say of methods beside each other, and what a run shows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float

from modeledit_jax.evaluation.statistics import Interval, mean_interval
from modeledit_jax.report.markdown import interval_cell, table_lines
from modeledit_jax.run.fact_run import FactRun

Runs: TypeAlias = Mapping[str, Mapping[int, FactRun]]
"""``{method: {seed: run}}``."""

Question: TypeAlias = tuple[str, str, str]
"""The terms of a difference, and the metric."""

EARLY = 0.1
"""Share of the edits after which scores count as early."""

HEAD = ("claim", "source", "measured", "points [95% interval]", "verdict")


@dataclass(frozen=True)
class Term:
    """A score of a method on every stream: at the end, or early."""

    method: str
    early: bool = False

    def __str__(self) -> str:
        return f"{self.method}{' early' if self.early else ''}"

    def values(self, runs: Runs, metric: str) -> dict[int, float]:
        """By seed; empty where the method was not run."""
        return {
            seed: float(run.curves[metric][_early(run) if self.early else -1])
            for seed, run in runs.get(self.method, {}).items()
        }


def _early(run: FactRun) -> int:
    """The last point at which at most that share of all edits was made; the first, if none was."""
    return max(int((np.asarray(run.edits) <= EARLY * run.edits[-1]).sum()) - 1, 0)


@dataclass(frozen=True)
class Claim:
    """``one − other`` of a metric is more than some points.

    Attributes:
      text: in words.
      source: who says so.
      one, other: of the difference.
      metric: None: the mean of four.
      more_than: of the difference, as a fraction.
    """

    text: str
    source: str
    one: Term
    other: Term
    metric: str | None = None
    more_than: float = 0.0

    def asks(self, overall: str) -> Question:
        """What it compares, in a run whose mean of four is this one."""
        return str(self.one), str(self.other), self.metric or overall

    def differences(self, runs: Runs, overall: str) -> Float[np.ndarray, " s"]:
        """On every stream that has both."""
        metric = self.metric or overall
        one, other = (term.values(runs, metric) for term in (self.one, self.other))
        return np.array([one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())])


Verdict = Literal["holds", "does not hold", "open", "one stream"]


def verdict(found: Interval, more_than: float) -> Verdict:
    """Whether an interval lies above a bound, below it, or around it."""
    if not np.isfinite(found.low):
        return "one stream"
    if found.low > more_than:
        return "holds"
    return "does not hold" if found.high <= more_than else "open"


def of_papers() -> list[Claim]:
    """The claims of RLEdit, HiEdit and AlphaEdit."""
    rledit, hiedit = "RLEdit", "HiEdit"
    return [
        Claim("closed form leads early", rledit, Term("memit", True), Term("ultraedit", True)),
        Claim("closed form leads early", rledit, Term("memit", True), Term("rledit", True)),
        Claim(
            "closed form collapses later", "AlphaEdit, RLEdit", Term("memit", True), Term("memit")
        ),
        Claim("hypernetworks stay: above MEMIT at the end", rledit, Term("rledit"), Term("memit")),
        *(
            Claim(f"RLEdit above {name}", rledit, Term("rledit"), Term(method))
            for name, method in (("MEND", "mend"), ("MALMEN", "malmen"), ("UltraEdit", "ultraedit"))
        ),
        Claim("HiEdit above RLEdit", hiedit, Term("hiedit"), Term("rledit")),
        Claim(
            "a learned choice of layers keeps half a point more than a random one",
            hiedit,
            Term("hiedit"),
            Term("random-k"),
            "retention",
            0.005,
        ),
        Claim(
            "half of the layers suffice: a point below all at most",
            hiedit,
            Term("hiedit"),
            Term("rledit"),
            more_than=-0.01,
        ),
    ]


def of_ours(ours: Sequence[str], published: Sequence[str]) -> list[Claim]:
    """Each of our editors above each of the published ones."""
    return [
        Claim(f"{one} above {other}", "ours", Term(one), Term(other))
        for one in ours
        for other in published
    ]


def claim_lines(runs: Runs, claims: Sequence[Claim], overall: str) -> list[str]:
    """A table of the claims whose methods were run; nothing, if there are none.

    Args:
      runs: of all methods.
      claims: to be looked at.
      overall: the metric that is the mean of four.
    """
    lines = []
    for claim in claims:
        differences = claim.differences(runs, overall)
        if not len(differences):
            continue
        found = mean_interval(differences)
        metric = claim.metric or overall
        bound = f" > {100 * claim.more_than:g}" if claim.more_than else " > 0"
        lines.append(
            (
                claim.text,
                claim.source,
                f"`{metric}`: {claim.one} − {claim.other}{bound}",
                interval_cell(found, 1, percent=True, signed=True),
                verdict(found, claim.more_than),
            )
        )
    if not lines:
        return []
    note = (
        f"Differences on the same streams with 95% t-intervals; early is after {EARLY:.0%} of the "
        "edits. A claim holds if its interval lies above the bound, does not if below, and is open "
        "else."
    )
    return ["## Claims", "", *table_lines(HEAD, lines, texts=3), "", note, ""]
