"""A long computation in chunks that are saved: killed and resumed it gives the same bits.

`run.loop` does this for searches; this is the same for anything that is a state and a function
that takes it some steps on: training a language model, training an editor, a stream of edits.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from modeledit_jax.mesh import Placement
from modeledit_jax.processes import agreed, first_does, first_goes_ahead
from modeledit_jax.run.checkpoint import Checkpoints
from modeledit_jax.types import Advance, PyTree, Report

SAVE_EVERY = 10.0
"""Seconds between checkpoints, if not said otherwise."""


@dataclass(frozen=True)
class CompletedRun:
    """Where a computation stands.

    Attributes:
      state: after the steps done.
      record: ``{name: [total, ...]}`` of NumPy arrays, what every step reported.
      seconds: spent on it, in all parts of an interrupted run together.
    """

    state: PyTree
    record: dict[str, np.ndarray]
    seconds: float


def run_chunks(
    start: PyTree,
    record: Mapping[str, np.ndarray],
    advance: Advance,
    *,
    chunk: int,
    total: int | None = None,
    folder: Path | None = None,
    save_every: float | None = None,
    placement: Placement | None = None,
    report: Report | None = None,
) -> CompletedRun:
    """Goes from the start, or from the newest checkpoint, to the end.

    Args:
      start: state before the first step; it may be used up.
      record: zeros ``[total, ...]``, to be filled with what `Advance` returns.
      advance: see there.
      chunk: steps of one call; the last one may be shorter.
      total: steps; None: as the record has room for.
      folder: for checkpoints; None: keep nothing.
      save_every: seconds between checkpoints, `SAVE_EVERY` if None; the last chunk is always saved.
      placement: how the state lies on several devices. What is saved has no trace of it, so that
        others can go on. None: as ``start`` lies.
      report: called after every chunk.

    Raises:
      ValueError: the folder holds a checkpoint of something else.
    """
    total = len(next(iter(record.values()))) if total is None else total
    save_every = SAVE_EVERY if save_every is None else save_every
    found = {name: np.array(values) for name, values in record.items()}
    gather, place = (_same, _same)
    if placement is not None:
        gather, place = placement.gather, placement.place
    checkpoints = Checkpoints(folder) if folder else None
    done, before = 0, 0.0
    state = start
    if checkpoints and (newest := _newest(checkpoints, _kept(gather(start), found, 0.0))):
        done, kept = newest
        state, before = place(kept["state"]), float(kept["seconds"])
        found = {name: np.array(values) for name, values in kept["record"].items()}
    begin = last = time.perf_counter()
    while done < total:
        size = min(chunk, total - done)
        state, metrics = jax.block_until_ready(advance(state, done, size))
        for name, values in metrics.items():
            found[name][done : done + size] = np.asarray(values)
        done += size
        if report is not None:
            report(done, total, {name: found[name][done - size : done] for name in metrics})
        now = time.perf_counter()
        if checkpoints and agreed(now - last >= save_every or done == total):
            kept = _kept(gather(state), found, before + now - begin)
            first_does(partial(checkpoints.save, done, kept))
            last = time.perf_counter()
    return CompletedRun(state, found, before + time.perf_counter() - begin)


def _newest(checkpoints: Checkpoints, like: PyTree) -> tuple[int, PyTree] | None:
    """The newest whole checkpoint; the first of several processes removes those that are not."""
    with first_goes_ahead():
        newest = checkpoints.restore(like)
    agreed(None)  # nobody saves until all have read
    return newest


def _kept(state: PyTree, record: dict[str, np.ndarray], seconds: float) -> dict[str, Any]:
    return {"state": state, "record": record, "seconds": np.float64(seconds)}


def _same(tree: PyTree) -> PyTree:
    return tree
