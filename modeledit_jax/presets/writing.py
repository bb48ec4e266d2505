"""Tuned presets: a method's file with the settings that a tuner has found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit

from modeledit_jax.presets.preset import preset_source


def tuned_preset(name: str | Path, family: str, settings: Mapping[str, Any], tuned: str) -> str:
    """Text of a preset with other settings; comments and all else stay.

    Args:
      name: see `load_preset`.
      family: likewise.
      settings: by name, with dots between tables: ``"training.learning_rate"``.
      tuned: how they were found.

    Raises:
      FileNotFoundError, ValueError: as `load_preset`.
    """
    document = tomlkit.parse(preset_source(name, family)[1])
    document["tuned"] = tuned
    for path, value in settings.items():
        table: Any = document
        *tables, last = ("settings", *path.split("."))
        for part in tables:
            if part not in table:
                table[part] = tomlkit.table()
            table = table[part]
        table[last] = value
    return tomlkit.dumps(document)
