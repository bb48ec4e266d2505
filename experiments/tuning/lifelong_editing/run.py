"""Every setting of every method's grid on a world of its own, and presets of the best."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import build_method
from experiments.lifelong_editing.setup import Setup, check_modules, prepare
from experiments.tuning.lifelong_editing.config import TuneConfig
from experiments.tuning.searches import write_tuning
from modeledit_jax.presets.preset import load_preset, preset_names
from modeledit_jax.presets.writing import tuned_preset
from modeledit_jax.run.edit_facts import SHOWN, run_fact_task
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.progress import Progress

Trial = dict[str, float]
"""Settings by name, with dots between tables."""

_RATES: dict[str, tuple[float, ...]] = {
    "network.edit_lr": (1e-4, 3e-4),
    "training.learning_rate": (1e-5, 3e-5),
}
STEPS: dict[str, dict[str, tuple[float, ...]]] = {
    "ft-l": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ft-m": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "ultraedit": {"learning_rate": (3e-5, 1e-4, 3e-4, 1e-3)},
    "mend": _RATES,
    "malmen": _RATES,
    "rledit": _RATES,
}
"""Four trials each."""


def trials(name: str) -> list[Trial]:
    """The settings of a method's grid."""
    grid = STEPS[name]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(config: TuneConfig) -> Path:
    """Tunes; writes ``tuning.json`` and a preset of every method in ``presets/``."""
    check_modules(config)
    methods = [build_method(load_preset(name, "lifelong")) for name in config.methods]
    grids: dict[str, list[Trial]] = {name: trials(name) for name in config.methods}
    scores = np.zeros((config.seeds, len(grids), max(map(len, grids.values()))))
    with Progress("tuning", scores.size, SHOWN) as bars:
        for place in range(config.seeds):
            setup = prepare(config, config.seed + place, bars.reporter, methods)
            for number, name in enumerate(grids):
                scores[place, number] = run_trials(config, setup, name, grids[name], bars)
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
    for name, (best, *_) in found.items():
        write_followers(config, name, {key: best[key] for key in STEPS[name]})
    return write_tuning(config, "lifelong", found)


def run_trials(
    config: TuneConfig, setup: Setup, name: str, grid: Sequence[Trial], bars: Progress
) -> list[float]:
    """``overall`` of every setting of a method."""
    options = {"meta_updates": config.meta_updates, "memory": config.memory}
    preset = load_preset(name, "lifelong").with_options(**options)
    scores = []
    for number, trial in enumerate(grid):
        found = run_fact_task(
            build_method(preset.with_settings(trial)),
            setup.task,
            jax.random.key(setup.seed),
            folder=run_folder(config) / f"{name}-{number}" / f"seed-{setup.seed}",
            reporter=bars.reporter,
            name=name,
        )
        scores.append(found.metrics["overall"])
        bars.one_done()
    return scores


def write_followers(config: TuneConfig, name: str, settings: Trial) -> None:
    """Presets of the methods that take the settings of another one."""
    for other in followers(name):
        text = tuned_preset(other, "lifelong", settings, f"all but the routing is that of {name}")
        atomic_write_text(run_folder(config) / "presets" / f"{other}.toml", text)


def followers(name: str) -> list[str]:
    """Methods that have the class and all settings of another one, and a routing besides."""
    leader = load_preset(name, "lifelong")
    presets = (load_preset(other, "lifelong") for other in preset_names("lifelong"))
    return [
        other.name
        for other in presets
        if other.name != name
        and other.kind is leader.kind
        and {key: value for key, value in other.settings.items() if key != "routing"}
        == leader.settings
    ]
