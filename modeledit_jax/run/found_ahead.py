"""What methods find out about facts in the unedited network: once for every content, then kept."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.memory_plan import facts_ahead
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import fingerprint
from modeledit_jax.run.identity import identities
from modeledit_jax.run.lock import locked
from modeledit_jax.run.progress import Reporter
from modeledit_jax.run.resumable import run_chunks
from modeledit_jax.types import Array, Report

GROUPS = 4
"""Groups of facts of like length at most, each of which is compiled."""

FEWEST = 4
"""Batches of a group: fewer are not worth compiling."""


def with_found_ahead(
    method: StreamEditor,
    task: FactTask,
    cache_dir: str | Path | None = None,
    reporter: Reporter | None = None,
    name: str = "",
) -> FactTask:
    """The task with what a method finds ahead of its stream (`StreamEditor.find_ahead`).

    Kept for every content of network, facts and settings, so that methods with equal
    `StreamEditor.finds_ahead` and streams that are run again share it. Stopped on the way it goes
    on where it was.

    Args:
      method: without a size (`StreamEditor.sized_for`), or with one that all facts fit; one that
        finds nothing gets the task back.
      task: encoded or prepared.
      cache_dir: of what is computed once; None: `default_cache_dir`.
      reporter: shows the progress, in batches, if there is something to be found.
      name: of the method, for ``reporter``.
    """
    settings = method.finds_ahead
    if settings is None:
        return task
    task = prepared(task)
    names = ("settings", "network", "edits")
    found = identities([settings, task.model.params, _read(task.edits)])
    key = dict(zip(names, found, strict=True)) | {
        "config": str(task.model.config),
        "modules": list(task.model.modules),
    }
    folder = Path(cache_dir or default_cache_dir()) / "found-ahead"

    def build() -> dict[str, Any]:
        unfinished = folder / "unfinished" / fingerprint(key)
        report = reporter and reporter(f"{name}: ahead" if name else "ahead")
        with _held(unfinished) as place:
            values = _found(method, task, place, report)
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        return values

    kept = cached_tree(folder, key, build)
    edits = replace(task.edits, values=jnp.asarray(kept["values"]))
    return replace(task, edits=edits, seconds_ahead=float(kept["seconds"]))


@contextmanager
def _held(folder: Path) -> Iterator[Path | None]:
    """A folder for checkpoints; None if it cannot be written, or another process works there."""
    with ExitStack() as stack:
        place: Path | None = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        except (OSError, ValueError):
            place = None
        yield place


def _read(facts: FactBatch) -> Any:
    """What an editor may read of a stream."""
    return facts.edit.tokens, facts.edit.labels, facts.subject_last, facts.contexts


def _found(
    method: StreamEditor, task: FactTask, folder: Path | None, report: Report | None
) -> dict[str, Any]:
    """Of all facts, those of like length side by side: every row is padded to the longest."""
    scoring, size = task.scoring, task.edits.real.shape[1]
    assert scoring is not None
    facts = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), task.edits)
    batches: list[tuple[StreamEditor, EditableModel, np.ndarray]] = []
    for group in _by_length(facts, size):
        stream = jax.tree.map(lambda leaf, group=group: leaf[group], facts)
        sized = method.sized_for(task.model, (stream,))
        few = facts_ahead(partial(_find, sized), task.model, _rows(facts, group[0]), scoring)
        model = replace(task.model, rows_at_once=few)
        batches += [(sized, model, places) for places in group]
    sized, model, places = batches[0]
    shape = jax.eval_shape(sized.find_ahead, model, _rows(facts, places))
    record = {"values": np.zeros((len(batches), *shape.shape), shape.dtype)}

    def advance(state: Array, done: int, steps: int) -> tuple[Array, Mapping[str, Any]]:
        found = [
            _find(sized, model, _rows(facts, places))
            for sized, model, places in batches[done : done + steps]
        ]
        return state + steps, {"values": np.asarray(jnp.stack(found))}

    start = jnp.zeros((), jnp.int32)
    run = run_chunks(start, record, advance, chunk=1, folder=folder, report=report)
    values = np.zeros((len(facts.subject_last), *shape.shape[1:]), shape.dtype)
    for (*_, places), found in zip(batches, run.record["values"], strict=True):
        values[places] = found
    values = values.reshape(*task.edits.real.shape, *shape.shape[1:])
    return {"values": values, "seconds": np.float32(run.seconds)}


def _by_length(facts: FactBatch, size: int) -> list[np.ndarray]:
    """Places of facts ``[N, ...]``, as groups of batches ``[s, size]`` of like length; the last
    batch of a group is filled up with its last fact."""
    scored = np.asarray(facts.edit.scored)
    ends = scored.shape[1] - scored[:, ::-1].argmax(1)
    # What a change at the subject reaches, then the answer's tokens.
    order = np.lexsort((scored.sum(1), ends - np.asarray(facts.subject_last)))
    count = min(GROUPS, -(-len(order) // (FEWEST * size)))
    groups = []
    for group in np.array_split(order, count):
        filled = np.pad(group, (0, -len(group) % size), mode="edge")
        groups.append(filled.reshape(-1, size))
    return groups


def _rows(facts: FactBatch, places: np.ndarray) -> FactBatch:
    return jax.tree.map(lambda leaf: leaf[places], facts)


@partial(jax.jit, static_argnums=0)
def _find(method: StreamEditor, model: EditableModel, batch: FactBatch) -> Array:
    return method.find_ahead(model, batch)
