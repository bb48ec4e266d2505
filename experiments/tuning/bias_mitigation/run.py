"""The trials of every search for bias mitigation, and their score."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bias_mitigation.baselines import TOLERATED
from experiments.bias_mitigation.run import fairness_course, prepare
from experiments.tuning.bias_mitigation.config import TuneConfig
from experiments.tuning.unlearning.run import run_trials, write_tuning

STEPS = {"ppo": (1.25, 2.5), "openes": (0.1, 0.2), "snes": (1.0, 2.0)}
POPULATIONS = (10, 20, 40)  # with the steps, six trials each
SPREADS = (0.15, 0.3, 0.5, 0.7, 1.0, 1.4)  # of random search, which has nothing else to tune


def trials(name: str) -> list[dict[str, float]]:
    """The settings of a search's grid."""
    if name == "random-search":
        return [{"population": 20, "std": std, "step": 0.0} for std in SPREADS]
    return [
        {"population": population, "std": 0.3, "step": step}
        for population, step in itertools.product(POPULATIONS, STEPS[name])
    ]


def criterion(course: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> float:
    """``−FPED − FNED − 4 · max(accuracy lost − TOLERATED, 0)`` of the last edit, mean of tasks."""
    lost = np.maximum(base["accuracy"][:, -1] - course["accuracy"][:, -1] - TOLERATED, 0.0)
    return float((-course["fped"][:, -1] - course["fned"][:, -1] - 4.0 * lost).mean())


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json``."""
    grids: dict[str, Any] = {name: trials(name) for name in config.searches}
    found = run_trials(config, prepare(config).tasks, grids, fairness_course, criterion)
    return write_tuning(config, found)
