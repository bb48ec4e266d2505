"""The lifelong editing experiment: language models, then every method on each, then the report."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax

from experiments.common.memory import announcer
from experiments.common.options import run_folder
from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.methods import build_method, load_methods
from experiments.lifelong_editing.report import Outcome, write_report
from experiments.lifelong_editing.setup import Setup, check_modules, prepare, setup_for
from experiments.lifelong_editing.text import check_statistics, text_notes, with_text
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.run.fact_folder import claim
from modeledit_jax.run.fact_run import SHOWN, FactRun, run_fact_task
from modeledit_jax.run.found_ahead import with_found_ahead
from modeledit_jax.run.progress import Progress, Reporter


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    presets = load_methods(config.methods, config)
    methods = {preset.name: build_method(preset) for preset in presets}
    check_statistics(config, methods)
    check_modules(config)
    outcomes, notes = [], []
    with Progress("lifelong editing", config.seeds * (len(methods) + 1), SHOWN) as bars:
        for seed in range(config.seed, config.seed + config.seeds):
            setup = prepare(config, seed, bars.reporter, methods.values(), further=True)
            notes += [*setup.notes, *context_notes(setup, methods)]
            setups = {setup.model.modules: setup}
            tokens: dict[str, int] = {}
            bars.one_done()
            for preset in presets:
                name, method = preset.name, methods[preset.name]
                setup = setup_for(config, preset, setups)
                found = run_method(config, setup, name, method, bars.reporter)
                notes += save_network(config, setup, name, found)
                if method.reads_text:
                    tokens[name] = found.text_tokens
                # Networks of many methods would not fit into memory side by side.
                outcomes.append(Outcome(name, seed, replace(found, kernels={}, state=None)))
                bars.one_done()
            notes += text_notes(config, seed, tokens)
    return write_report(config, presets, setup, outcomes, notes)


def run_method(
    config: Config, setup: Setup, name: str, method: StreamEditor, reporter: Reporter
) -> FactRun:
    """One method on one stream; in a folder of its own, so that others may join the run later.

    Raises:
      ValueError: the folder is that of other settings, e.g. of a preset that has changed since.
    """
    folder = run_folder(config) / "checkpoints" / f"{name}-seed-{setup.seed}"
    key = jax.random.key(setup.seed)
    task = with_text(config, setup, method, reporter)
    claim(folder, method, replace(setup.encoded, model=task.model), key)
    task = with_found_ahead(method, task, config.cache_dir, reporter, name)
    said = announcer(f"{name}, seed {setup.seed}")
    return run_fact_task(
        method, task, key, folder=folder, reporter=reporter, name=name, announce=said
    )


def context_notes(setup: Setup, methods: Mapping[str, StreamEditor]) -> list[str]:
    """The sampled texts that closed-form methods edited under."""
    users = [name for name, method in methods.items() if method.contexts]
    if not users:
        return []
    texts = ", ".join(f"“{text.strip()}”" for text in setup.task.contexts)
    about = f"seed {setup.seed}: {', '.join(users)} edited under contexts sampled from the model"
    return [f"{about}, {texts}"]


def save_network(config: Config, setup: Setup, name: str, found: FactRun) -> list[str]:
    """Writes an edited network where it is asked for; returns what is to be said about it."""
    parent = config.save
    if parent is None and config.model is not None:
        parent = run_folder(config) / "networks"
    if parent is None or found.metrics["weight_shift"] == 0:
        return []
    folder = parent / f"{name}-seed-{setup.seed}"
    try:
        if not folder.exists():  # else a run that is resumed has written it before
            setup.model.save(folder, found.kernels)
    except ValueError as error:
        return [f"{name}, seed {setup.seed}: {error}"]
    return [f"{name}, seed {setup.seed}: edited network in {folder}"]
