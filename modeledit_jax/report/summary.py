"""The run folder: rows, aggregates, ``summary.json``, ``metrics.csv`` and report tables.

Numbers in files are fractions 0...1 and counts, never percent; only `markdown_table` displays
percent. A metric that is not finite (undefined or failed) is NaN in memory and null in JSON.
Files appear whole or not at all: each is written under a temporary name, then renamed.
"""

import csv
import dataclasses
import io
import json
import math
import os
import platform
import re
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.statistics import Interval, stratified_bootstrap
from modeledit_jax.report.markdown import table_lines

SCHEMA = 1
"""Version of ``summary.json``."""

_EDITOR_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_METRIC_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclasses.dataclass(frozen=True)
class Row:
    """One editor on one task with one seed.

    Raises:
      ValueError: for an editor that is not lower-case-with-hyphens or a metric that is not
        lower_snake_case.
    """

    editor: str
    task: str
    seed: int
    metrics: Mapping[str, float]  # fractions 0...1; NaN or infinite = not defined
    cost: Cost

    def __post_init__(self) -> None:
        check_editor_name(self.editor)
        for name in self.metrics:
            check_metric_name(name)
        object.__setattr__(self, "metrics", {k: float(v) for k, v in self.metrics.items()})


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """Interquartile mean of one metric of one editor over all seeds and tasks."""

    editor: str
    metric: str
    iqm: float  # NaN if any of the n values is not finite
    ci_low: float  # 95% stratified bootstrap; NaN with a single seed
    ci_high: float
    n: int  # runs, seeds × tasks


@dataclasses.dataclass(frozen=True)
class Summary:
    """Contents of ``summary.json``."""

    experiment: str
    config: dict[str, Any]
    environment: dict[str, str]
    rows: list[Row]
    aggregates: list[Aggregate]


@dataclasses.dataclass(frozen=True)
class Column:
    """One metric of a report table.

    ``worst`` says which extreme is the bad one; ``percent`` shows fractions as percent.
    """

    metric: str
    worst: Literal["highest", "lowest"]
    percent: bool = True
    digits: int = 2


def check_editor_name(name: str) -> None:
    """Raise ValueError unless ``name`` is lower case with hyphens, e.g. ``ppo-shift``."""
    if not _EDITOR_NAME.fullmatch(name):
        raise ValueError(f"editor name {name!r} must be lower case with hyphens, like 'ppo-shift'")


def check_metric_name(name: str) -> None:
    """Raise ValueError unless ``name`` is lower case with underscores, e.g. ``tow``."""
    if not _METRIC_NAME.fullmatch(name):
        raise ValueError(
            f"metric name {name!r} must be lower case with underscores, like 'forget_accuracy_test'"
        )


def aggregate(rows: Sequence[Row]) -> list[Aggregate]:
    """IQM with 95% stratified bootstrap interval of every metric of every editor.

    Editors and metrics keep the order of their first appearance. A metric is aggregated over the
    rows that have it; if one of its values is not finite the aggregate is NaN, because leaving
    failed runs out would flatter the editor.

    Raises:
      ValueError: if an editor has two rows for one (task, seed), or a metric's rows do not
        form a complete grid of tasks and seeds.
    """
    return [
        _aggregate_metric(editor, metric, own)
        for editor, own in group_by_editor(rows).items()
        for metric in dict.fromkeys(name for row in own for name in row.metrics)
    ]


def group_by_editor(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows of each editor, editors in order of first appearance."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.editor, []).append(row)
    return groups


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
    aggregates: Sequence[Aggregate],
) -> Path:
    """Write ``run_dir/summary.json`` (schema 1), creating the folder.

    Args:
      run_dir: folder of the run.
      experiment: name of the experiment.
      config: configuration; paths, tuples, NumPy numbers and nested dataclasses are converted.
      rows: one per (editor, task, seed).
      aggregates: of those rows, from `aggregate`.

    Returns:
      Path of the file.

    Raises:
      ValueError: if the configuration holds something JSON cannot say.
    """
    payload = {
        "schema": SCHEMA,
        "experiment": experiment,
        "config": config,
        "environment": environment(),
        "rows": list(rows),
        "aggregates": list(aggregates),
    }
    path = Path(run_dir) / "summary.json"
    text = json.dumps(_plain(payload), indent=2, allow_nan=False)
    atomic_write_text(path, text + "\n")
    return path


def read_summary(run_dir: str | Path) -> Summary:
    """Read ``run_dir/summary.json`` back; nulls among the numbers become NaN.

    Raises:
      FileNotFoundError: if the folder has no summary.
      ValueError: if the file has another schema.
    """
    path = Path(run_dir) / "summary.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: pass the --run-dir of a finished run")
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {data.get('schema')}, not {SCHEMA}: run it again")
    rows = [
        Row(
            **{
                **row,
                "metrics": _nan_for_null(row["metrics"]),
                "cost": Cost(**_nan_for_null(row["cost"])),
            }
        )
        for row in data["rows"]
    ]
    aggregates = [Aggregate(**_nan_for_null(item)) for item in data["aggregates"]]
    return Summary(data["experiment"], data["config"], data["environment"], rows, aggregates)


def write_metrics_csv(run_dir: str | Path, columns: Mapping[str, Sequence[Any]]) -> Path:
    """Write ``run_dir/metrics.csv`` with one column per metric; empty cell = not finite.

    Args:
      run_dir: folder of the run, created if absent.
      columns: ``{metric name: values}`` of equal lengths (lists or 1-d arrays).

    Returns:
      Path of the file.

    Raises:
      ValueError: for a bad metric name or columns of unequal lengths.
    """
    for name in columns:
        check_metric_name(name)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of metrics.csv differ in length: {lengths}")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_plain(list(values)) for values in columns.values()), strict=True))
    path = Path(run_dir) / "metrics.csv"
    atomic_write_text(path, buffer.getvalue())
    return path


def markdown_table(rows: Sequence[Row], columns: Sequence[Column], costs: bool = False) -> str:
    """Markdown table of editors: mean, worst run and IQM [95% interval] of each column's metric.

    Args:
      rows: as for `aggregate`; editors keep the order of first appearance.
      columns: metrics to show. Nonzero numbers that would round to zero read ``<0.01``.
      costs: add mean reward evaluations, gradient steps and seconds.

    Returns:
      Lines without a trailing newline. ``–`` stands for what is missing or not finite.

    Raises:
      ValueError: as for `aggregate`.
    """
    header = ["editor"]
    for column in columns:
        title = column.metric.replace("_", " ") + (" %" if column.percent else "")
        header += [f"{title}: mean", "worst", "IQM [95% interval]"]
    if costs:
        header += ["reward evaluations", "gradient steps", "seconds"]
    lines = []
    for editor, own in group_by_editor(rows).items():
        cells = [editor]
        for column in columns:
            cells += _metric_cells(editor, own, column)
        if costs:
            cells += _cost_cells(own)
        lines.append(cells)
    return "\n".join(table_lines(header, lines))


def atomic_write_text(path: str | Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file that is never seen half-written, creating its folder.

    The bytes go to a temporary name in the same folder, reach the disk, and replace ``path`` in
    one step; after a crash or an error the old file stands untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _aggregate_metric(editor: str, metric: str, rows: Sequence[Row]) -> Aggregate:
    """Aggregate of one metric over one editor's rows that have it (at least one)."""
    values = [(row.seed, row.task, row.metrics[metric]) for row in rows if metric in row.metrics]
    cells = {(seed, task): value for seed, task, value in values}
    if len(cells) < len(values):
        raise ValueError(f"editor {editor!r} has two rows for one (task, seed); keep one of them")
    seeds, tasks = sorted({seed for seed, _ in cells}), list(dict.fromkeys(t for _, t in cells))
    missing = [(task, seed) for seed in seeds for task in tasks if (seed, task) not in cells]
    if missing:
        raise ValueError(
            f"{metric!r} of editor {editor!r} lacks (task, seed) {missing[:3]}: run the missing "
            "ones or summarize the tasks apart"
        )
    scores = np.array([[cells[seed, task] for task in tasks] for seed in seeds])
    interval = Interval(math.nan, math.nan, math.nan)
    if np.isfinite(scores).all():
        interval = stratified_bootstrap(scores)
    return Aggregate(editor, metric, *interval, scores.size)


def _metric_cells(editor: str, rows: Sequence[Row], column: Column) -> list[str]:
    """Mean, worst and IQM with interval of one editor's metric."""
    values = [row.metrics[column.metric] for row in rows if column.metric in row.metrics]
    if not values or not np.isfinite(values).all():
        return ["–"] * 3
    item = _aggregate_metric(editor, column.metric, rows)
    extreme = max(values) if column.worst == "highest" else min(values)
    mean, worst, iqm, low, high = (
        _format(value, column)
        for value in (float(np.mean(values)), extreme, item.iqm, item.ci_low, item.ci_high)
    )
    return [mean, worst, f"{iqm} [{low}, {high}]" if math.isfinite(item.ci_low) else iqm]


def _cost_cells(rows: Sequence[Row]) -> list[str]:
    """Mean costs of one editor."""
    costs = np.array([dataclasses.astuple(row.cost) for row in rows], np.float64).mean(axis=0)
    return [f"{costs[0]:,.0f}", f"{costs[1]:,.0f}", _seconds(costs[2])]


def _seconds(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _format(value: float, column: Column) -> str:
    """A number for people, at the column's digits."""
    if not math.isfinite(value):
        return "–"
    shown = 100.0 * value if column.percent else value
    unit = 10.0**-column.digits
    if 0 < abs(shown) < unit / 2:
        return f"<{unit:.{column.digits}f}" if shown > 0 else f">−{unit:.{column.digits}f}"
    return f"{shown:.{column.digits}f}".replace("-", "−")


def _plain(value: Any) -> Any:
    """As types JSON knows, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ValueError(f"cannot write {value!r} to JSON: use numbers, strings, lists or mappings")


def _nan_for_null(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in values.items()}


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
