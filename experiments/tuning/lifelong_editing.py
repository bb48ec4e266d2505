"""Tunes the step sizes of all editors, with the same number of trials, on a world of its own.

    python -m experiments.tuning.lifelong_editing

That world, its language model and all facts edited into it are of another seed than those of the
experiment, which are not looked at. A trial is judged by ``overall`` after the last edit, the mean
of efficacy, generalization, specificity and retention. HiEdit and its controls take what RLEdit
takes, so that they differ in the routing alone. `experiments.lifelong_editing.methods` has the best
settings.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from experiments.common.options import command_line, guarded, run_folder
from experiments.lifelong_editing.config import Config, resolve
from experiments.lifelong_editing.methods import TUNED
from experiments.lifelong_editing.run import Progress
from experiments.lifelong_editing.setup import Setup, check_modules, prepare
from experiments.lifelong_editing.stream_run import run_method
from experiments.tuning.unlearning import write_tuning
from modeledit_jax.run.folder import opened_run

TunedName = Literal["ft-l", "ft-m", "ultraedit", "mend", "malmen", "rledit"]

STEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "ft-l": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ft-m": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ultraedit": {"learning_rate": (3e-5, 1e-4, 3e-4, 1e-3)},
    "mend": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
    "malmen": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
    "rledit": {"edit_lr": (1e-4, 3e-4), "meta_lr": (1e-5, 3e-5)},
}
"""Four trials each."""


@dataclass(frozen=True)
class TuneConfig(Config):
    """Tune the editors of the lifelong-editing experiment."""

    methods: tuple[TunedName, ...] = TunedName.__args__  # type: ignore[attr-defined]
    """Editors to tune."""
    edits: int = 1_000
    """Facts edited, one batch after another."""
    train_edits: int = 1_000
    """Facts, about other subjects, that learned editors are trained on."""
    seed: int = 100
    """First seed; keep it away from the experiment's."""
    run_dir: Path | None = field(default=Path("runs/tuning-lifelong-editing"))
    """Where tuning.json is written."""


def trials(name: str) -> list[dict[str, float]]:
    """The settings of a method's grid."""
    grid = STEPS[name]
    return [dict(zip(grid, own, strict=True)) for own in itertools.product(*grid.values())]


def run(config: TuneConfig) -> None:
    """Tunes and writes ``tuning.json``."""
    grids: dict[str, list[dict[str, float]]] = {name: trials(name) for name in config.methods}
    scores = np.zeros((config.seeds, len(grids), max(map(len, grids.values()))))
    with (
        opened_run(run_folder(config), config, resume=config.resume),
        Progress(scores.size) as bars,
    ):
        check_modules(config)
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
        write_tuning(config, found)


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


def main(config: TuneConfig) -> int:
    """Tunes; returns the exit code."""
    return guarded(config, resolve, "experiments.tuning.lifelong_editing")


if __name__ == "__main__":
    command_line(TuneConfig, main, __doc__)
