"""Settings to try, as many for each method."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.tuning.lifelong_editing.config import TuneConfig
from modeledit_jax.presets.preset import Preset
from modeledit_jax.presets.writing import DEPTH

Trial = dict[str, Any]
"""Settings by name, with dots between tables; and `DEPTH`."""

Grid = Mapping[str, Sequence[Any]]
"""What is tried of each of them."""

_RATES: dict[str, tuple[float, ...]] = {
    "network.edit_lr": (1e-4, 3e-4),
    "training.learning_rate": (1e-5, 3e-5),
}
STEPS: dict[str, Grid] = {
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
_LAYERS = {DEPTH: ((0.26, 0.36), (0.16, 0.36))}
_WEIGHTS: Grid = {"weight": (1_500.0, 15_000.0), **_LAYERS}
_NULL_SPACE: Grid = {"energy": (0.5, 0.7), **_LAYERS}
_WRITER: Grid = {"writer.bound": (0.35, 0.5), "values.steps": (2, 4)}
_JOINT_LAYERS = {DEPTH: ((0.16, 0.36), (0.1, 0.36))}
PRETRAINED: dict[str, Grid] = {
    "ft-l": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "ft-m": {"learning_rate": (1e-4, 2e-4, 5e-4, 1e-3)},
    "ultraedit": {"learning_rate": (2e-5, 5e-5, 1e-4, 2e-4)},
    "mend": _SINGLE,
    "malmen": _SINGLE,
    "rledit": _SINGLE,
    "memit": _WEIGHTS,
    "memit-seq": _WEIGHTS,
    "emmet": {"weight": (100.0, 1_000.0), **_LAYERS},
    "alphaedit": _NULL_SPACE,
    "nas": _NULL_SPACE,
    "memit-amortized": _WRITER,
    "alphaedit-amortized": _WRITER,
    "memit-joint": {"weight": (800.0, 1_500.0), **_JOINT_LAYERS},
    "alphaedit-joint": {"energy": (0.5, 0.7), **_JOINT_LAYERS},
    "ultraedit-text": {"editor.learning_rate": (1e-4, 2e-4), "weight": (100.0, 1_000.0)},
}
"""With a model that is given: four trials each."""


def grids(config: TuneConfig) -> dict[str, Grid]:
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


def trials(grid: Grid) -> list[Trial]:
    """All settings of a grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def with_trial(preset: Preset, trial: Trial) -> Preset:
    """A method with the settings of a trial."""
    settings = {name: value for name, value in trial.items() if name != DEPTH}
    if DEPTH in trial:
        assert preset.pretrained is not None  # it has layers to be tried in their place
        pretrained = replace(preset.pretrained, depth=trial[DEPTH])
        preset = replace(preset, pretrained=pretrained)
    return preset.with_settings(settings)
