"""The course of one method: it learns to edit, edits all facts in, and the model is asked."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.options import run_folder
from experiments.lifelong_editing.methods import TUNED, Method, make_method
from experiments.lifelong_editing.setup import Setup
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.editors.editor import Cost
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor
from modeledit_jax.lifelong.methods.meta_training import MetaState, start_training, train_steps
from modeledit_jax.lifelong.scoring import score_final, score_stream, unedited_answers
from modeledit_jax.lifelong.stream import StreamState, edit_stream, start_stream
from modeledit_jax.run.resumable import CompletedRun, Report, run_chunks

POINTS = 10
"""Times that the edits so far are asked about, and groups of edits by age."""


@dataclass(frozen=True)
class Outcome:
    """One method on one seed.

    Attributes:
      editor, seed: which.
      edits: ``[P]``, edits made at each point where the model was asked.
      curves: ``{metric: [P]}``.
      masks: ``[P, M]``, share of the batches since the last point that changed each module.
      modules: names of the M modules.
      ages, retention: ``[G]``, efficacy at the end by age of the edits.
      metrics: all numbers of the row.
      cost: training and editing together.
    """

    editor: str
    seed: int
    edits: np.ndarray
    curves: dict[str, np.ndarray]
    masks: np.ndarray
    modules: tuple[str, ...]
    ages: np.ndarray
    retention: np.ndarray
    metrics: dict[str, float]
    cost: Cost


def run_method(
    setup: Setup,
    name: str,
    reporter: Callable[[str], Report],
    tuned: Mapping[str, Mapping[str, float]] = TUNED,
) -> Outcome:
    """Trains an editor with its tuned step sizes, edits all facts in, and asks."""
    streams = (setup.edits, setup.training)
    method = make_method(name, setup.config, setup.model, streams, tuned)
    state, learning = learn(setup, name, method, reporter(f"{name}: training"))
    editing = edit(setup, name, method, state, reporter(f"{name}: editing"))
    return evaluated(setup, name, method, editing, learning)


def learn(setup: Setup, name: str, method: Method, report: Report) -> tuple[Any, float]:
    """State of the editor before the stream, and the seconds its training took."""
    key = jax.random.fold_in(jax.random.key(setup.seed), 1)
    training, editor = method.training, method.editor
    if training is None:
        return editor.init(setup.model, key), 0.0
    assert isinstance(editor, HypernetworkEditor)

    def advance(state: MetaState, done: int, steps: int) -> tuple[MetaState, dict[str, Any]]:
        state, metrics = train_steps(editor, training, setup.model, state, setup.training, steps)
        return state, {name: metrics[name] for name in record}

    record = {
        name: np.zeros(training.steps(batches(setup.training)), np.float32)
        for name in ("loss", "gradient_norm")
    }
    start = start_training(editor, training, setup.model, key)
    found = run_chunks(
        start, record, advance, chunk=20, folder=folder(setup, name, "training"), report=report
    )
    return found.state.editor, found.seconds


def edit(
    setup: Setup,
    name: str,
    method: Method,
    state: Any,
    report: Report,
    dtype: Any = None,
) -> CompletedRun:
    """Edits all batches, asking about the edits so far ten times on the way.

    Kernels are kept in ``dtype``, that of the model if None.
    """
    model, edits = setup.model, setup.edits
    bounds = points(batches(edits))
    ask = partial(score_stream, model, edits=edits, unedited=unedited_answers(model, edits))
    compiled: dict[int, Any] = {}

    def advance(state: StreamState, done: int, _: int) -> tuple[StreamState, dict[str, Any]]:
        begin, end = bounds[done], bounds[done + 1]
        part = jax.tree.map(lambda leaf: leaf[begin:end], edits)
        if end - begin not in compiled:  # ahead of time, so that it is not taken for editing
            lowered = edit_stream.lower(method.editor, model, state, part)
            compiled[end - begin] = lowered.compile()
        clock = time.perf_counter()
        state, trace = jax.block_until_ready(compiled[end - begin](model, state, part))
        seconds = time.perf_counter() - clock
        scores = ask(state.kernels, batches=jnp.int32(end), first=setup.config.retained)
        each = {
            **scores,
            "seconds": seconds,
            "masks": trace.masks.mean(0),
            "change_norm": jnp.sqrt((trace.change_norms**2).sum(1)).mean(),
        }
        return state, {name: np.asarray(value)[None] for name, value in each.items()}

    key = jax.random.fold_in(jax.random.key(setup.seed), 2)
    start = start_stream(model, state, key, dtype or model.dtype)
    names = jax.eval_shape(
        partial(ask, first=setup.config.retained), start.kernels, batches=jnp.int32(0)
    )
    record = {name: np.zeros(len(bounds) - 1) for name in (*names, "seconds", "change_norm")}
    record["masks"] = np.zeros((len(bounds) - 1, len(model.modules)))
    where = folder(setup, name, "stream")
    return run_chunks(start, record, advance, chunk=1, folder=where, report=report)


def evaluated(
    setup: Setup, name: str, method: Method, found: CompletedRun, learning: float
) -> Outcome:
    """The numbers of one method."""
    state: StreamState = found.state
    ending = score_final(
        setup.model,
        state.kernels,
        setup.edits,
        setup.held_out,
        setup.untouched,
        min(POINTS, batches(setup.edits)),
    )
    record = dict(found.record)
    seconds, masks = record.pop("seconds").sum(), record.pop("masks")
    edited = np.cumsum(np.asarray(setup.edits.real).sum(1))
    made = np.array([edited[end - 1] for end in points(batches(setup.edits))[1:]])
    metrics = {key: float(values[-1]) for key, values in record.items()}
    metrics |= {key: float(value) for key, value in ending.metrics.items()}
    metrics["modules_per_edit"] = float(masks.sum(1).mean())
    metrics["ms_per_edit"] = 1e3 * float(seconds) / len(setup.corpus.edits)
    metrics["state_bytes"] = float(sum(leaf.nbytes for leaf in jax.tree.leaves(state.editor)))
    return Outcome(
        name,
        setup.seed,
        made,
        record,
        masks,
        setup.model.modules,
        np.asarray(ending.ages),
        np.asarray(ending.retention),
        metrics,
        Cost(gradient_steps=gradient_steps(setup, method), seconds=learning + found.seconds),
    )


def gradient_steps(setup: Setup, method: Method) -> int:
    """Steps of an optimizer, in training or, for fine-tuning, at most in editing."""
    if isinstance(method.editor, FineTune):
        return method.editor.steps * batches(setup.edits)
    return 0 if method.training is None else method.training.updates


def batches(stream: FactBatch) -> int:
    """T of a stream ``[T, n, ...]``."""
    return stream.subject_last.shape[0]


def points(total: int) -> list[int]:
    """Batches done at the start and at each of at most `POINTS` points, evenly."""
    count = min(POINTS, total)
    return [round(total * index / count) for index in range(count + 1)]


def folder(setup: Setup, name: str, part: str) -> Path:
    """Of checkpoints."""
    return run_folder(setup.config) / "checkpoints" / f"{name}-seed-{setup.seed}" / part
