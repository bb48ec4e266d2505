"""Figures of the experiment on real comments."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.bias_mitigation.figures import REFERENCE_STYLES
from experiments.bias_mitigation.real import RealSetup
from experiments.common.methods import Method, Result
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.fairness_figures import dumbbell
from modeledit_jax.report.planes import utility_fairness_plane
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.tasks.debiasing_suites import WINDOWS, block_scores

PLANES = {
    "utility_fairness": (f"{WINDOWS}_fped", "FPED on windows (lower is fairer)"),
    "dispersion_auc": (f"{WINDOWS}_dispersion", "dispersion on windows (lower is fairer)"),
    "dispersion_auc_held_out": (
        f"{WINDOWS}_dispersion_held_out",
        "dispersion on windows, held-out terms (lower is fairer)",
    ),
}
"""Figures by name: metric and label of the horizontal axis; the vertical one is the AUC."""


def draw_suites(
    folder: Path,
    setup: RealSetup,
    results: Sequence[Result],
    table: Sequence[Row],
    methods: Sequence[Method],
    styles: Mapping[str, Style],
) -> None:
    """Error rates by term before and after learned edits; planes of unfairness and AUC.

    Args:
      folder: to write them into.
      setup: folds and networks.
      results: of all methods, ``original`` first.
      table: one row for every method, fold and network.
      methods: those that were named.
      styles: of them.
    """
    references = [method.name for method in methods if method.role == "reference"]
    rows = group_by(table, "method")
    for name, (metric, label) in PLANES.items():
        points = {method: (_of(own, metric), _of(own, "auc")) for method, own in rows.items()}
        unfairness, auc = points.pop("original")
        utility_fairness_plane(
            points,
            folder / f"{name}.png",
            original=(float(unfairness.mean()), float(auc.mean())),
            xlabel=label,
            ylabel="AUC on test comments",
            off_front={*references, *REFERENCE_STYLES},
            styles={**REFERENCE_STYLES, **styles},
        )
    before = _term_rates(setup, results[0])
    for result in results:
        if result.learned:
            _draw_terms(folder, setup, result.method, before, _term_rates(setup, result))


def _of(rows: Sequence[Row], metric: str) -> np.ndarray:
    return np.array([row.metrics[metric] for row in rows])


Rates = Mapping[str, tuple[np.ndarray, float]]
"""False positive and false negative rate: of every term ``[V]``, and of all texts."""


def _term_rates(setup: RealSetup, result: Result) -> Rates:
    """On windows, means over networks and folds."""
    found = [
        block_scores(task, outputs, WINDOWS)
        for task, outputs in zip(setup.tasks, result.outputs, strict=True)
    ]
    rates = {}
    for name, label in (("false positive rate", 0), ("false negative rate", 1)):
        wrong = np.mean(
            [
                ((one.scores >= one.threshold) != bool(label))[one.label == label].mean(axis=0)
                for one in found
            ],
            axis=0,
        )
        rates[name] = wrong, float(wrong.mean())
    return rates


def _draw_terms(folder: Path, setup: RealSetup, method: str, before: Rates, after: Rates) -> None:
    never = np.zeros(len(setup.folds[0].data.identities), bool)  # a fold's, and another's not
    held_out = np.asarray(setup.folds[0].data.held_out) if len(setup.folds) == 1 else never
    dumbbell(
        setup.folds[0].data.identities,
        {n: (before[n][0], after[n][0], before[n][1], after[n][1]) for n in before},
        held_out,
        folder / f"terms_{method.replace('-', '_')}.png",
        title=f"Error rates on windows by identity term, before and after {method} "
        f"({len(setup.seeds)} networks, {len(setup.folds)} folds)",
    )
