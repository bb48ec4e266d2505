"""What methods find out about facts in the unedited network: once for every content, then kept."""

import shutil
from collections.abc import Mapping
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
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import fingerprint
from modeledit_jax.run.identity import identities
from modeledit_jax.run.progress import Reporter
from modeledit_jax.run.resumable import run_chunks
from modeledit_jax.types import Array, Report


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
      method: with a size (`StreamEditor.sized_for`); one that finds nothing gets the task back.
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
        values = _found(method, task, unfinished, report)
        shutil.rmtree(unfinished, ignore_errors=True)
        return values

    kept = cached_tree(folder, key, build)
    edits = replace(task.edits, values=jnp.asarray(kept["values"]))
    return replace(task, edits=edits, seconds_ahead=float(kept["seconds"]))


def _read(facts: FactBatch) -> Any:
    """What an editor may read of a stream."""
    return facts.edit.tokens, facts.edit.labels, facts.subject_last, facts.contexts


def _found(
    method: StreamEditor, task: FactTask, folder: Path, report: Report | None
) -> dict[str, Any]:
    model, edits = task.model, task.edits
    batch = jax.tree.map(lambda leaf: leaf[0], edits)
    shape = jax.eval_shape(method.find_ahead, model, batch)
    record = {"values": np.zeros((edits.batches, *shape.shape), shape.dtype)}

    def advance(state: Array, done: int, steps: int) -> tuple[Array, Mapping[str, Any]]:
        rows = [
            _find(method, model, jax.tree.map(lambda leaf, at=at: leaf[at], edits))
            for at in range(done, done + steps)
        ]
        return state + steps, {"values": np.asarray(jnp.stack(rows))}

    start = jnp.zeros((), jnp.int32)
    run = run_chunks(start, record, advance, chunk=1, folder=folder, report=report)
    return {"values": run.record["values"], "seconds": np.float32(run.seconds)}


@partial(jax.jit, static_argnums=0)
def _find(method: StreamEditor, model: EditableModel, batch: FactBatch) -> Array:
    return method.find_ahead(model, batch)
