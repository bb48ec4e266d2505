"""The trials of every search for bias mitigation, and their score."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.bias_mitigation.config import family_of
from experiments.bias_mitigation.real import prepare_real
from experiments.bias_mitigation.run import prepare, training_key
from experiments.tuning.bias_mitigation.config import TuneConfig
from experiments.tuning.searches import (
    Curves,
    Settings,
    check_trials,
    files_of,
    grid_of,
    run_trials,
    searches,
    write_tuning,
)
from modeledit_jax.editors.reward_gradient import RewardGradient
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.run.plan_evaluation import Measure
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import TOLERATED, fairness_curves
from modeledit_jax.tasks.debiasing_suites import suite_curves

RATES = {"PPO": (1.25, 2.5), "OpenES": (0.1, 0.2), "SNES": (1.0, 2.0)}
POPULATIONS = (10, 20, 40)  # with the rates, six trials each
SPREADS = (0.15, 0.3, 0.5, 0.7, 1.0, 1.4)  # of random search, which has nothing else to tune

REAL_RATES = {"PPO": (0.6, 1.25, 2.5), "OpenES": (0.05, 0.1, 0.2), "SNES": (0.5, 1.0, 2.0)}
REAL_SPREADS = (0.1, 0.3)  # with the rates, six trials too
STEPS, STEP_SIZES = (200, 400), (0.001, 0.003, 0.01)  # of gradient ascent


def trials(search: str, real: bool = False) -> list[Settings]:
    """The settings of a class's grid; ``real``: on real contexts."""
    if search == "RandomSearch":
        return [{"population": 20, "std": std} for std in SPREADS]
    if search == "RewardGradient":
        pairs = itertools.product(STEPS, STEP_SIZES)
        return [{"steps": steps, "learning_rate": rate} for steps, rate in pairs]
    rates = grid_of(REAL_RATES if real else RATES, search)
    populations, spreads = ((20,), REAL_SPREADS) if real else (POPULATIONS, (0.3,))
    return [
        {"population": population, "std": spread, "learning_rate": rate}
        for population, spread, rate in itertools.product(populations, spreads, rates)
    ]


def criterion(curves: Curves, base: Curves) -> float:
    """``−FPED − FNED − 4 · max(accuracy lost − TOLERATED, 0)`` of the last edit, mean of tasks."""
    lost = np.maximum(base["accuracy"][:, -1] - curves["accuracy"][:, -1] - TOLERATED, 0.0)
    return float((-curves["fped"][:, -1] - curves["fned"][:, -1] - 4.0 * lost).mean())


AUC_TOLERATED = 0.002
"""Loss of AUC on ``select`` that costs nothing in `suite_criterion`."""
RATES_TOLERATED = 0.01
"""Change of an error rate that costs nothing there."""


def suite_criterion(curves: Curves, base: Curves) -> float:
    """Minus the share of the dispersion that is left, and what an edit costs beyond its due.

    AUC lost beyond `AUC_TOLERATED` counts 100-fold, balanced accuracy lost beyond `TOLERATED`
    20-fold, a change of the error rates on counterfactuals beyond `RATES_TOLERATED` 10-fold: a
    third of each margin of the gates costs about a tenth of the dispersion. Of the last edit, mean
    of tasks. FPED has no part: in ``select`` each term stands in other contexts.
    """
    last = {name: values[:, -1] for name, values in curves.items()}
    first = {name: values[:, -1] for name, values in base.items()}
    cost = 100.0 * np.maximum(first["auc"] - last["auc"] - AUC_TOLERATED, 0.0)
    cost += 20.0 * np.maximum(first["accuracy"] - last["accuracy"] - TOLERATED, 0.0)
    for rate in ("fpr", "fnr"):
        cost += 10.0 * np.maximum(np.abs(last[rate] - first[rate]) - RATES_TOLERATED, 0.0)
    return float((-last["dispersion"] / first["dispersion"] - cost).mean())


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json`` and the presets."""
    family = family_of(config)
    presets = searches(config, family, (RewardGradient,) if config.real else ())
    grids = {name: trials(found.kind.__name__, config.real) for name, found in presets.items()}
    tasks = _tasks(config, check_trials(config, presets, grids))
    measure: Measure = suite_curves if config.real else fairness_curves
    judge = suite_criterion if config.real else criterion
    found = run_trials(config, tasks, presets, grids, measure, judge)
    return write_tuning(config, family, found, files_of(config, family))


def _tasks(config: TuneConfig, searches: Sequence[SearchEditor]) -> list[DebiasingTask]:
    if config.real:
        return prepare_real(config, searches, training_key).tasks
    return prepare(config, searches).tasks
