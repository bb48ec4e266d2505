"""Finished parts of the transfer experiment on disk, so that a resumed run does not repeat them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from experiments.transfer.adaptation import Course
from modeledit_jax.editors.editor import Cost
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import atomic_write_text


def cached_rows(path: Path, build: Callable[[], Sequence[Row]]) -> list[Row]:
    """Rows from ``path``, or built and written there."""
    if not path.exists():
        atomic_write_text(path, json.dumps([asdict(row) for row in build()]))
    return [_row(one) for one in json.loads(path.read_text())]


def cached_courses(
    path: Path, build: Callable[[], tuple[Mapping[str, Course], Sequence[Row]]]
) -> tuple[dict[str, Course], list[Row]]:
    """Courses of searches, and rows, from ``path``, or built and written there."""
    if not path.exists():
        courses, rows = build()
        tree = {
            "courses": {name: _plain(course) for name, course in courses.items()},
            "rows": [asdict(row) for row in rows],
        }
        atomic_write_text(path, json.dumps(tree))
    tree = json.loads(path.read_text())
    courses = {
        name: Course(
            [_row(one) for one in own["rows"]],
            np.asarray(own["evaluations"]),
            {key: np.asarray(values) for key, values in own["curves"].items()},
        )
        for name, own in tree["courses"].items()
    }
    return dict(courses), [_row(one) for one in tree["rows"]]


def _plain(course: Course) -> dict[str, Any]:
    return {
        "rows": [asdict(row) for row in course.rows],
        "evaluations": course.evaluations.tolist(),
        "curves": {name: values.tolist() for name, values in course.curves.items()},
    }


def _row(one: Mapping[str, Any]) -> Row:
    return Row(one["method"], one["task"], one["seed"], one["metrics"], Cost(**one["cost"]))
