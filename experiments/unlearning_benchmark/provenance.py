"""Where the settings of each method came from: search space, trials, and what was found."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.methods import Method
from experiments.tuning.unlearning.run import GRIDS, trials
from experiments.unlearning_benchmark.config import BenchmarkConfig
from modeledit_jax.presets.preset import Preset, load_preset
from modeledit_jax.report.markdown import MISSING, table_lines


def provenance_lines(config: BenchmarkConfig, methods: Sequence[Method]) -> list[str]:
    """A section with a line for every method that was named and run."""
    by_name = {}
    for name in config.methods:
        preset = load_preset(name, "unlearning")
        by_name[preset.name] = preset
    presets = [by_name[method.name] for method in methods]
    header = ("method", "search space", "trials", "settings", "found by")
    lines = [
        (
            preset.name,
            _space(preset),
            str(len(trials(preset.kind.__name__))) if preset.kind.__name__ in GRIDS else MISSING,
            _listed(preset.settings),
            preset.tuned or "not tuned",
        )
        for preset in presets
    ]
    note = (
        "The search space is that of `experiments.tuning.unlearning`, whose trials are judged on "
        "the select split of a network that no experiment edits. What is not tuned has the "
        "settings of its class, or none."
    )
    return ["## Settings", "", *table_lines(header, lines, texts=5), "", note, ""]


def _space(preset: Preset) -> str:
    grid = GRIDS.get(preset.kind.__name__, {})
    return "; ".join(f"{name}: {', '.join(map(str, own))}" for name, own in grid.items()) or MISSING


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or MISSING
