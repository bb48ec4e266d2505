"""The trials of every search, all tasks side by side, and their scores."""

import itertools
from pathlib import Path

import numpy as np

from experiments.common.methods import check_methods
from experiments.tuning.searches import (
    Curves,
    Settings,
    files_of,
    grid_of,
    run_trials,
    searches,
    write_tuning,
)
from experiments.tuning.unlearning.config import TuneConfig
from experiments.unlearning.run import prepare
from modeledit_jax.evaluation.accuracy import accuracies

GRIDS: dict[str, dict[str, tuple[float, ...]]] = {  # six trials each
    "PPO": {"population": (6, 10), "std": (0.3,), "learning_rate": (1.0, 1.5, 2.0)},
    "OpenES": {"population": (6, 10), "std": (0.3,), "learning_rate": (0.06, 0.1, 0.15)},
    "SNES": {"population": (6, 10), "std": (0.3,), "learning_rate": (1.0, 1.5, 2.0)},
    "RandomSearch": {"population": (20,), "std": (0.3, 0.7, 1.0, 1.4, 2.0, 3.0)},
}
LONG_HORIZON = {"population": (10,), "std": (0.15, 0.3), "learning_rate": (0.2, 0.5, 1.25)}
"""Six trials of PPO for episodes of several edits, which add up."""


def trials(search: str, horizon: int = 1) -> list[Settings]:
    """The settings of a class's grid."""
    grid = grid_of(GRIDS if horizon == 1 else {"PPO": LONG_HORIZON}, search)
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json`` and the presets."""
    presets = searches(config, "unlearning")
    grids = {name: trials(found.kind.__name__, config.horizon) for name, found in presets.items()}
    tasks = prepare(config, check_methods(config, "unlearning")).tasks
    found = run_trials(config, tasks, presets, grids, accuracies, area)
    return write_tuning(config, "unlearning", found, files_of(config, "unlearning"))


def area(curves: Curves, base: Curves) -> float:
    """Area under the curve that the command's help describes, mean over tasks."""
    drop = np.maximum(base["retain"] - curves["retain"], 0.0)
    return float(((1 - curves["forget"]) * (1 - 10 * drop)).mean())
