"""Rows as JSON: what ``summary.json`` and the cached parts of a run consist of.

JSON has no NaN: a number that is not finite is written as null and read back as NaN.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import Row
from modeledit_jax.run.digested_json import cached_json


def as_plain(value: Any) -> Any:
    """As types JSON knows, numbers that are not finite as None.

    Raises:
      ValueError: something JSON cannot say.
    """
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return as_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"cannot write {value!r} to JSON: use numbers, strings, lists or mappings")


def row_from_plain(content: Mapping[str, Any]) -> Row:
    """A row that `as_plain` wrote, with or without its curves."""
    return Row(
        content["method"],
        content["task"],
        content["seed"],
        nan_for_null(content["metrics"]),
        Cost(**nan_for_null(content["cost"])),
        content["factors"],
        {
            name: [math.nan if value is None else value for value in values]
            for name, values in content.get("curves", {}).items()
        },
    )


def nan_for_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN in place of None."""
    return {key: math.nan if value is None else value for key, value in values.items()}


def cached_rows(path: Path, build: Callable[[], Sequence[Row]]) -> list[Row]:
    """Rows from the file ``path``, or built and written there: `cached_json` of rows."""
    return [row_from_plain(row) for row in cached_json(path, lambda: as_plain(list(build())))]
