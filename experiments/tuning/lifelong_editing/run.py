"""The trials of every lifelong editor, and their scores."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import TUNED
from experiments.lifelong_editing.run import Progress
from experiments.lifelong_editing.setup import Setup, check_modules, prepare
from experiments.lifelong_editing.stream_run import run_method
from experiments.tuning.lifelong_editing.config import TuneConfig
from experiments.tuning.unlearning.run import write_tuning

STEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "ft-l": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ft-m": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ultraedit": {"learning_rate": (3e-5, 1e-4, 3e-4, 1e-3)},
    "mend": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
    "malmen": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
    "rledit": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
}
"""Four trials each."""


def trials(name: str) -> list[dict[str, float]]:
    """The settings of a method's grid."""
    grid = STEPS[name]
    return [dict(zip(grid, own, strict=True)) for own in itertools.product(*grid.values())]


def run(config: TuneConfig) -> Path:
    """Tunes and writes ``tuning.json``."""
    check_modules(config)
    grids: dict[str, list[dict[str, float]]] = {name: trials(name) for name in config.methods}
    scores = np.zeros((config.seeds, len(grids), max(map(len, grids.values()))))
    with Progress(scores.size) as bars:
        for place in range(config.seeds):
            setup = prepare(config, config.seed + place, bars.reporter)
            for number, name in enumerate(grids):
                scores[place, number] = run_trials(setup, name, grids[name], bars)
    means = dict(zip(grids, scores.mean(0), strict=True))
    found = {
        name: sorted(
            (
                {**trial, "score": float(score)}
                for trial, score in zip(grid, means[name], strict=True)
            ),
            key=lambda trial: -trial["score"],
        )
        for name, grid in grids.items()
    }
    return write_tuning(config, found)


def run_trials(
    setup: Setup, name: str, grid: Sequence[dict[str, float]], bars: Progress
) -> list[float]:
    """``overall`` of every setting of a method."""
    scores = []
    for number, trial in enumerate(grid):
        folder = run_folder(setup.config) / f"{name}-{number}"
        own = replace(setup, config=replace(setup.config, run_dir=folder))
        found = run_method(own, name, bars.reporter, TUNED | {name: trial})
        scores.append(found.metrics["overall"])
        bars.one_done()
    return scores
