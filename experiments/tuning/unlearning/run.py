"""The trials of every method, all tasks side by side where it is a search, and their scores."""

import itertools
from pathlib import Path

import numpy as np

from experiments.tuning.searches import (
    Curves,
    Settings,
    check_trials,
    files_of,
    grid_of,
    presets_of,
    run_trials,
    write_tuning,
)
from experiments.tuning.unlearning.config import TuneConfig
from experiments.unlearning.run import prepare
from modeledit_jax.evaluation.accuracy import accuracies

STEP_SIZES = (0.001, 0.003, 0.01)
GRIDS: dict[str, dict[str, tuple[float, ...]]] = {  # six trials each
    "PPO": {"population": (6, 10), "std": (0.3,), "learning_rate": (1.0, 1.5, 2.0)},
    "OpenES": {"population": (6, 10), "std": (0.3,), "learning_rate": (0.06, 0.1, 0.15)},
    "SNES": {"population": (6, 10), "std": (0.3,), "learning_rate": (1.0, 1.5, 2.0)},
    "RandomSearch": {"population": (20,), "std": (0.3, 0.7, 1.0, 1.4, 2.0, 3.0)},
    "PGPE": {"population": (6, 10), "std": (0.3,), "learning_rate": (0.06, 0.1, 0.15)},
    "SepCMAES": {"population": (10, 20), "std": (0.1, 0.2, 0.3)},
    "FineTune": {"learning_rate": (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)},
    "ExactUnlearning": {"learning_rate": (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)},
    "L1Sparse": {"learning_rate": (0.01, 0.03, 0.1), "sparsity": (1e-4, 5e-4)},
    "GradientAscent": {"learning_rate": STEP_SIZES, "steps": (20, 100)},
    "NegGradPlus": {"learning_rate": (0.003, 0.01), "alpha": (0.95, 0.98, 0.995)},
    "RandomLabel": {"learning_rate": (0.003, 0.01, 0.03), "retain_weight": (1.0, 30.0)},
    "SalUn": {"learning_rate": (0.003, 0.01, 0.03), "retain_weight": (1.0, 30.0)},
    "BoundaryShrink": {"learning_rate": STEP_SIZES, "steps": (20, 100)},
    "SCRUB": {"learning_rate": (0.001, 0.003, 0.01), "kl_weight": (0.001, 0.1)},
    "BadTeacher": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)},
    "UNSIR": {"learning_rate": (0.003, 0.01, 0.03), "impair": (0.25, 0.5)},
    "SSD": {"selection": (1.0, 2.0, 5.0), "dampening": (1.0, 0.1)},
    "FisherForgetting": {"noise": (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)},
    "Influence": {"strength": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)},
    "RidgeEditor": {"weight": (0.3, 1.0, 3.0), "margin": (2.0, 5.0)},
    "ProjectionEditor": {"strength": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)},
    "PrototypeProjection": {"strength": (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)},
    "NeuronAblation": {"max_neurons": (1, 2, 4, 8, 16, 32)},
}
LONG_HORIZON = {"population": (10,), "std": (0.15, 0.3), "learning_rate": (0.2, 0.5, 1.25)}
"""Six trials of PPO for episodes of several edits, which add up."""


def trials(kind: str, horizon: int = 1) -> list[Settings]:
    """The settings of a class's grid."""
    grid = grid_of(GRIDS if horizon == 1 else {"PPO": LONG_HORIZON}, kind)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json`` and the presets."""
    presets = presets_of(config, "unlearning")
    grids = {name: trials(found.kind.__name__, config.horizon) for name, found in presets.items()}
    tasks = prepare(config, check_trials(config, presets, grids)).tasks
    found = run_trials(config, tasks, presets, grids, accuracies, area)
    return write_tuning(config, "unlearning", found, files_of(config, "unlearning"))


def area(curves: Curves, base: Curves) -> float:
    """Area under the curve that the command's help describes, mean over tasks.

    Of a method that is no search, which has no curve but its end, it is the value there.
    """
    drop = np.maximum(base["retain"] - curves["retain"], 0.0)
    return float(((1 - curves["forget"]) * (1 - 10 * drop)).mean())
