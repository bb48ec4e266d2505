"""The trials of every search for bias mitigation, and their score."""

import itertools
from pathlib import Path

import numpy as np

from experiments.bias_mitigation.run import prepare
from experiments.common.methods import check_methods
from experiments.tuning.bias_mitigation.config import TuneConfig
from experiments.tuning.searches import (
    Curves,
    Settings,
    files_of,
    grid_of,
    run_trials,
    searches,
    write_tuning,
)
from modeledit_jax.tasks.debiasing_metrics import TOLERATED, fairness_curves

RATES = {"PPO": (1.25, 2.5), "OpenES": (0.1, 0.2), "SNES": (1.0, 2.0)}
POPULATIONS = (10, 20, 40)  # with the rates, six trials each
SPREADS = (0.15, 0.3, 0.5, 0.7, 1.0, 1.4)  # of random search, which has nothing else to tune


def trials(search: str) -> list[Settings]:
    """The settings of a class's grid."""
    if search == "RandomSearch":
        return [{"population": 20, "std": std} for std in SPREADS]
    return [
        {"population": population, "std": 0.3, "learning_rate": rate}
        for population, rate in itertools.product(POPULATIONS, grid_of(RATES, search))
    ]


def criterion(curves: Curves, base: Curves) -> float:
    """``−FPED − FNED − 4 · max(accuracy lost − TOLERATED, 0)`` of the last edit, mean of tasks."""
    lost = np.maximum(base["accuracy"][:, -1] - curves["accuracy"][:, -1] - TOLERATED, 0.0)
    return float((-curves["fped"][:, -1] - curves["fned"][:, -1] - 4.0 * lost).mean())


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json`` and the presets."""
    presets = searches(config, "bias_mitigation")
    grids = {name: trials(found.kind.__name__) for name, found in presets.items()}
    tasks = prepare(config, check_methods(config, "bias_mitigation")).tasks
    found = run_trials(config, tasks, presets, grids, fairness_curves, criterion)
    return write_tuning(config, "bias_mitigation", found, files_of(config, "bias_mitigation"))
