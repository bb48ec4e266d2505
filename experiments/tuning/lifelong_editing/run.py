"""Every setting of every method's grid on a world of its own, and presets of the best."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.common.memory import announcer
from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.lifelong_editing.setup import Setup, check_modules, prepare, setup_for
from experiments.tuning.lifelong_editing.config import TuneConfig
from experiments.tuning.searches import write_tuning
from modeledit_jax.presets.preset import Preset, load_preset, preset_names
from modeledit_jax.presets.writing import tuned_preset
from modeledit_jax.run.fact_run import SHOWN, run_fact_task
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.found_ahead import with_found_ahead
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

_SINGLE: dict[str, tuple[float, ...]] = {
    "network.edit_lr": (1e-4, 3e-4),
    "training.learning_rate": (1e-5, 1e-4),
}
_CLAMPS = {"values.clamp": (0.5, 0.75)}
_WEIGHTS: dict[str, tuple[float, ...]] = {"weight": (1_500.0, 15_000.0), **_CLAMPS}
_NULL_SPACE: dict[str, tuple[float, ...]] = {"size_penalty": (1.0, 10.0), **_CLAMPS}
_WRITER: dict[str, tuple[float, ...]] = {"writer.bound": (0.35, 0.5), "values.steps": (2, 4)}
PRETRAINED: dict[str, dict[str, tuple[float, ...]]] = {
    "ft-l": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "ft-m": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "ultraedit": {"learning_rate": (5e-5, 1e-4, 2e-4, 4e-4)},
    "mend": _SINGLE,
    "malmen": _SINGLE,
    "rledit": _SINGLE,
    "memit": _WEIGHTS,
    "memit-seq": _WEIGHTS,
    "emmet": {"weight": (100.0, 1_000.0), **_CLAMPS},
    "alphaedit": _NULL_SPACE,
    "nas": _NULL_SPACE,
    "memit-amortized": _WRITER,
    "alphaedit-amortized": _WRITER,
    "memit-joint": {"weight": (1_500.0, 5_000.0), "values.clamp": (0.35, 0.5)},
    "alphaedit-joint": {"size_penalty": (10.0, 30.0), "values.clamp": (0.35, 0.5)},
    "ultraedit-text": {"editor.learning_rate": (1e-4, 2e-4), "weight": (100.0, 1_000.0)},
}
"""With a model that is given: four trials each."""


def grids(config: TuneConfig) -> dict[str, dict[str, tuple[float, ...]]]:
    """Settings to try, by method.

    Raises:
      ValueError: there is no grid for a method of the command line.
    """
    known = STEPS if config.model is None else PRETRAINED
    if unknown := [name for name in config.methods or known if name not in known]:
        raise ValueError(
            f"--methods {', '.join(unknown)}: there are no settings to try"
            f"{' without --model' if config.model is None else ''}; this command tunes "
            f"{', '.join(known)}"
        )
    return {name: known[name] for name in config.methods or known}


def trials(grid: Mapping[str, Sequence[float]]) -> list[Trial]:
    """All settings of a grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run(config: TuneConfig) -> Path:
    """Tunes; writes ``tuning.json`` and a preset of every method in ``presets/``."""
    check_modules(config)
    settings = grids(config)
    tried = {name: trials(grid) for name, grid in settings.items()}
    presets = load_methods(tuple(tried), config)
    methods = [build_method(preset) for preset in presets]
    scores = np.zeros((config.seeds, len(tried), max(map(len, tried.values()))))
    with Progress("tuning", scores.size, SHOWN) as bars:
        for place in range(config.seeds):
            setup = prepare(config, config.seed + place, bars.reporter, methods)
            setups = {setup.model.modules: setup}
            for number, preset in enumerate(presets):
                grid = tried[preset.name]
                scores[place, number, : len(grid)] = run_trials(config, setups, preset, grid, bars)
    means = dict(zip(tried, scores.mean(0), strict=True))
    found = {
        name: sorted(
            (
                {**trial, "score": float(score)}
                for trial, score in zip(grid, means[name], strict=True)
            ),
            key=lambda trial: -trial["score"],
        )
        for name, grid in tried.items()
    }
    for name, (best, *_) in found.items():
        write_followers(config, name, {key: best[key] for key in settings[name]})
    return write_tuning(config, "lifelong", found, pretrained=config.model is not None)


def run_trials(
    config: TuneConfig,
    setups: dict[tuple[str, ...], Setup],
    preset: Preset,
    grid: Sequence[Trial],
    bars: Progress,
) -> list[float]:
    """The mean of four of every setting of a method; of a given model that with what stays."""
    setup = setup_for(config, preset, setups)
    measure = "overall" if config.model is None else "overall_unedited"
    scores = []
    for number, trial in enumerate(grid):
        method = build_method(preset.with_settings(trial))
        task = with_found_ahead(method, setup.task, config.cache_dir, bars.reporter, preset.name)
        found = run_fact_task(
            method,
            task,
            jax.random.key(setup.seed),
            folder=run_folder(config) / f"{preset.name}-{number}" / f"seed-{setup.seed}",
            reporter=bars.reporter,
            name=preset.name,
            asked=1,
            announce=announcer(f"{preset.name}-{number}"),
        )
        scores.append(found.metrics[measure])
        bars.one_done()
    return scores


def write_followers(config: TuneConfig, name: str, settings: Trial) -> None:
    """Presets of the methods that take the settings of another one."""
    for other in followers(name):
        tuned = f"all but the routing is that of {name}"
        text = tuned_preset(other, "lifelong", settings, tuned, config.model is not None)
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
