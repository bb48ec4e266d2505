"""Tuned presets: a method's file with the settings that a tuner has found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from modeledit_jax.presets.preset import preset_source

DEPTH = "depth"
"""What the layers edited in a given model are called among settings (`Pretrained.depth`)."""


def tuned_preset(
    name: str | Path,
    family: str,
    settings: Mapping[str, Any],
    tuned: str,
    pretrained: bool = False,
) -> str:
    """Text of a preset with other settings; comments and all else stay.

    Args:
      name: see `load_preset`.
      family: likewise.
      settings: by name, with dots between tables: ``"training.learning_rate"``; `DEPTH` among
        those for a given model is that of its layers.
      tuned: how they were found.
      pretrained: they are those for a language model that is given (`Pretrained`).

    Raises:
      FileNotFoundError, ValueError: as `load_preset`.
    """
    document = tomlkit.parse(preset_source(name, family)[1])
    top = _table(document, ("pretrained",)) if pretrained else document
    top["tuned"] = tuned
    for path, value in settings.items():
        *tables, last = path.split(".")
        if not (pretrained and path == DEPTH):
            tables = ["settings", *tables]
        _table(top, tables)[last] = value
    return tomlkit.dumps(document)


def _table(document: Any, names: Sequence[str]) -> Any:
    """A table within tables, made where there is none."""
    for name in names:
        if name not in document:
            document[name] = tomlkit.table()
        document = document[name]
    return document
