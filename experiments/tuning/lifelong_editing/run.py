"""Every setting of every method's grid on a world of its own, and presets of the best."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from experiments.common.memory import announcer
from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.lifelong_editing.setup import Setup, check_modules, prepare, setup_for
from experiments.lifelong_editing.text import check_statistics, with_text
from experiments.tuning.lifelong_editing.config import TuneConfig
from experiments.tuning.lifelong_editing.grids import Trial, grids, trials, with_trial
from experiments.tuning.searches import write_tuning
from modeledit_jax.presets.preset import Preset, load_preset, preset_names
from modeledit_jax.presets.writing import tuned_preset
from modeledit_jax.run.fact_run import SHOWN, run_fact_task
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.found_ahead import with_found_ahead
from modeledit_jax.run.progress import Progress


def run(config: TuneConfig) -> Path:
    """Tunes; writes ``tuning.json`` and a preset of every method in ``presets/``."""
    check_modules(config)
    settings = grids(config)
    tried = {name: trials(grid) for name, grid in settings.items()}
    presets = load_methods(tuple(tried), config)
    methods = {preset.name: build_method(preset) for preset in presets}
    check_statistics(config, methods)
    scores = np.zeros((config.seeds, len(tried), max(map(len, tried.values()))))
    with Progress("tuning", scores.size, SHOWN) as bars:
        for place in range(config.seeds):
            setup = prepare(config, config.seed + place, bars.reporter, methods.values())
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
    measure = "overall" if config.model is None else "overall_unedited"
    scores = []
    for number, trial in enumerate(grid):
        tried = with_trial(preset, trial)
        setup, method = setup_for(config, tried, setups), build_method(tried)
        task = with_text(config, setup, method, bars.reporter)
        task = with_found_ahead(method, task, config.cache_dir, bars.reporter, preset.name)
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
