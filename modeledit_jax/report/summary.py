"""What a run leaves behind for programs: ``summary.json``, ``metrics.csv``, the environment.

Numbers in files are fractions 0...1 and counts, never percent. A metric that is not finite
(undefined or failed) is NaN in memory, null in JSON and an empty cell in CSV.
"""

import csv
import dataclasses
import io
import json
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dacite
import jax

from modeledit_jax.reading.json_text import read_object
from modeledit_jax.report.aggregates import Aggregate, aggregate
from modeledit_jax.report.serialization import as_plain
from modeledit_jax.report.table import Row, curve_lines
from modeledit_jax.run.files import atomic_write_text

SCHEMA = 2
"""Version of ``summary.json``."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Contents of ``summary.json``."""

    experiment: str
    config: dict[str, Any]
    environment: dict[str, str]
    rows: list[Row]
    aggregates: list[Aggregate]


def environment() -> dict[str, str]:
    """What the run ran on: ``jax``, ``device``, ``commit``, ``python`` and ``platform``.

    ``commit`` ends in ``-dirty`` when tracked files were changed, and is ``unknown`` outside a
    git checkout of this project.
    """
    devices = jax.devices()
    return {
        "jax": jax.__version__,
        "device": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})",
        "commit": _commit(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def write_summary(
    run_dir: str | Path,
    experiment: str,
    config: Mapping[str, Any],
    rows: Sequence[Row],
    strata: Sequence[str] = (),
) -> Path:
    """Writes ``run_dir/summary.json`` (schema 2): rows and their aggregates; makes the folder.

    Args:
      run_dir: folder of the run.
      experiment: name of the experiment.
      config: configuration; paths, tuples, NumPy numbers and nested dataclasses are converted.
      rows: one per method, task, seed and factors; their curves go to ``metrics.csv``.
      strata: see `aggregate`.

    Returns:
      Path of the file.

    Raises:
      ValueError: if the configuration holds something JSON cannot say; as `aggregate`.
    """
    payload = {
        "schema": SCHEMA,
        "experiment": experiment,
        "config": config,
        "environment": environment(),
        "rows": [_without_curves(row) for row in rows],
        "aggregates": aggregate(rows, strata),
    }
    path = Path(run_dir) / "summary.json"
    text = json.dumps(as_plain(payload), indent=2, allow_nan=False)
    atomic_write_text(path, text + "\n")
    return path


def read_summary(run_dir: str | Path) -> Summary:
    """Reads ``run_dir/summary.json`` back, rows without curves; nulls among the numbers become NaN.

    Raises:
      FileNotFoundError: if the folder has no summary.
      ValueError: if the file has another schema, or is damaged.
    """
    path = Path(run_dir) / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: pass the --run-dir of a finished run")
    data = read_object(path, "is damaged: run it again ({reason})")
    if data.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {data.get('schema')}, not {SCHEMA}: run it again")
    del data["schema"]
    try:
        return dacite.from_dict(Summary, data, _STRICT)
    except (dacite.DaciteError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} is no summary of schema {SCHEMA} ({reason}): run it again"
        ) from error


def _number(value: Any) -> Any:
    """A number of JSON; null is one that is not finite."""
    if value is None:
        return math.nan
    value = _integer(value)
    return float(value) if isinstance(value, int) else value


def _integer(value: Any) -> Any:
    """No truth value, which dacite takes for a number; all else is left to its check of types."""
    if isinstance(value, bool):
        raise ValueError(f"{value} stands where a number belongs")
    return value


_STRICT = dacite.Config(strict=True, type_hooks={float: _number, int: _integer})


def write_metrics_csv(run_dir: str | Path, rows: Sequence[Row]) -> Path:
    """Writes the rows' curves to ``run_dir/metrics.csv``, a line for each point of each row.

    Args:
      run_dir: folder of the run, created if absent.
      rows: those without curves are left out.

    Returns:
      Path of the file: columns ``method``, ``task``, ``seed``, factors and curves; an empty cell
      is a number that is not finite, or one that the row does not have.
    """
    path, text = Path(run_dir) / "metrics.csv", io.StringIO()
    columns, lines = curve_lines(rows)
    csv.writer(text, lineterminator="\n").writerows([columns, *lines])
    atomic_write_text(path, text.getvalue())
    return path


def _without_curves(row: Row) -> dict[str, Any]:
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    del fields["curves"]
    return fields


def _commit(root: Path) -> str:
    """Commit of the checkout at ``root``, not of any repository that happens to enclose it."""
    if not (root / ".git").exists():
        return "unknown"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
