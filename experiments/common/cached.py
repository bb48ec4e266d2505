"""Finished parts of a run on disk, so that a resumed run does not repeat them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeledit_jax.run.files import atomic_write_text


def cached_json(path: Path, build: Callable[[], Any]) -> Any:
    """A JSON value from ``path``, or built and written there. Floats keep all their bits."""
    if not path.exists():
        atomic_write_text(path, json.dumps(build()))
    return json.loads(path.read_text())
