"""Whose a folder is in which a method edits facts: work of other settings must not go on there."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.identity import identities
from modeledit_jax.types import Key

IDENTITY, DAMAGED = "edit_facts.json", "is damaged: choose another folder ({reason})"
"""File that says whose a folder is, and what is wrong with one that cannot be read."""


def claim(folder: Path, method: StreamEditor, task: FactTask, key: Key) -> None:
    """Writes whose folder it is, or checks that it is that of the same work.

    Args:
      folder: for checkpoints.
      method: with its settings.
      task: as it was encoded.
      key: of everything random.

    Raises:
      ValueError: the folder holds work of another method, network, key, or of other facts; or
        what says so is damaged.
    """
    mine = _identity(method, task, key)
    path = folder / IDENTITY
    if not path.exists():
        atomic_write_text(path, json.dumps(mine, indent=2) + "\n")
        return
    stored = read_object(path, DAMAGED)
    names = [*mine, *(name for name in stored if name not in mine)]
    if changed := [name for name in names if stored.get(name) != mine.get(name)]:
        raise ValueError(
            f"the run in {folder} is of another {' and '.join(changed)}: repeat what it was "
            "started with, or choose another folder"
        )


def _identity(method: StreamEditor, task: FactTask, key: Key) -> dict[str, Any]:
    """What a resumed run must have in common with the one that was stopped."""
    # Texts that a method does not read may be there for others.
    edits = task.edits if method.contexts else replace(task.edits, contexts=None)
    parts = {
        "method": method,
        "model": (task.model.config, task.model.kernels()),
        "edits": edits,
        "train": task.train,
        "key": key,
    }
    if task.model.statistics is not None:
        parts["statistics"] = task.model.statistics
    found: dict[str, Any] = dict(zip(parts, identities(list(parts.values())), strict=True))
    return found | {"contexts": list(task.contexts)} if method.contexts else found
