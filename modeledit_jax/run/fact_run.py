"""A method on a stream of facts that is encoded: trained, run to the end, and asked on the way.

A run can be stopped at any time: with a folder it goes on where it was and gives the same bits.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.edit_scores import retention_by_age
from modeledit_jax.lifelong.fact_task import FactTask, spread_task
from modeledit_jax.lifelong.memory_plan import EditingPlan, FactPlan, plan_editing, plan_facts
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.prepared import prepared
from modeledit_jax.lifelong.scoring import (
    HEADLINE,
    score_besides,
    score_stream,
    unedited_answers,
)
from modeledit_jax.lifelong.stream import (
    CHUNK,
    StreamEditor,
    StreamState,
    compiled_stream,
    start_stream,
)
from modeledit_jax.mesh import Layout, laid_out, mesh_of
from modeledit_jax.run.progress import Reporter
from modeledit_jax.run.resumable import CompletedRun, run_chunks
from modeledit_jax.types import Advance, Key, PyTree, Report

POINTS = 10
"""Times at most that the edits so far are asked about."""

FACTOR = 1.6
"""Between the numbers of edits at two such times: asking costs more the more there are."""

GROUPS = 10
"""Groups of edits by age."""

SHOWN = ("loss", "efficacy", "retention", "specificity")
"""Of what is reported, what progress bars show."""


@dataclass(frozen=True)
class FactRun:
    """What a method made of a stream of facts.

    Attributes:
      kernels: the edited ones after the last batch, by module.
      state: of the method.
      metrics: all numbers, fractions and counts, after the last batch.
      edits: ``[P]``, edits made at each point where the model was asked.
      curves: ``{metric: [P]}``, of the edits so far.
      masks: ``[P, M]``, share of the batches since the last point that changed each module.
      modules: names of the M modules.
      ages: ``[G]``, mean number of edits made since, of groups of edits of like age.
      retention: ``[G]``, efficacy at the end of each group.
      cost: training and editing together.
      contexts: sampled texts that the facts were edited under.
      text_tokens: of the text whose key statistics the method used; 0: it used none.
    """

    kernels: Kernels
    state: PyTree
    metrics: dict[str, float]
    edits: np.ndarray
    curves: dict[str, np.ndarray]
    masks: np.ndarray
    modules: tuple[str, ...]
    ages: np.ndarray
    retention: np.ndarray
    cost: Cost
    contexts: tuple[str, ...] = ()
    text_tokens: int = 0

    @property
    def scores(self) -> dict[str, float]:
        """Efficacy, generalization, specificity and retention: shares of the answers' tokens."""
        return {name: self.metrics[name] for name in HEADLINE}


def run_fact_task(
    method: StreamEditor,
    task: FactTask,
    key: Key,
    *,
    folder: Path | None = None,
    training_folder: Path | None = None,
    dtype: Any = None,
    reporter: Reporter | None = None,
    name: str = "",
    asked: int = POINTS,
    memory: int | None = None,
    announce: Callable[[str], None] | None = None,
) -> FactRun:
    """What `edit_facts` does, on what is encoded already.

    Args:
      method: see `StreamEditor`; `StreamEditor.sized_for` is called here.
      task: what to edit in, and what is asked.
      key: of everything random.
      folder: for checkpoints; None: keep nothing.
      training_folder: for those of the training, so that several runs may share one; default:
        ``folder / "training"``.
      dtype: of the edited kernels; None: that of the model, float32 at least.
      reporter: shows the progress.
      name: of the method, for ``reporter``.
      asked: times at most that the edits so far are asked about, ever further apart, which is when
        checkpoints are written; 1: at the end alone.
      memory: bytes that model, stream, questions and training may take on each device; fewer
        questions and facts are read at a time where all do not fit (`lifelong.memory_plan`). None:
        `default_budget`. That of a task which is `prepared` already counts.
      announce: called with a line that says how the method fits into the memory.

    Raises:
      ValueError: a method that has nothing to learn from, checkpoints of something else, or a
        ``memory`` that is too small for one question, or for learning from one fact at a time.
    """
    task = spread_task(prepared(task, memory))
    mesh = mesh_of(task.model.params)
    shown = reporter or _silent
    prefix = f"{name}: " if name else ""
    method = method.sized_for(task.model, task.streams)
    training_folder = training_folder or (folder and folder / "training")
    loop = _SavedLoop(training_folder, partial(shown, f"{prefix}training"), mesh)
    announce = announce or _unsaid
    plan = planned(method, task)
    announce(str(plan))
    model = replace(task.model, rows_at_once=plan.facts)
    state = method.train(model, task.train, jax.random.fold_in(key, 1), loop)
    start = start_stream(
        model, state, jax.random.fold_in(key, 2), model.dtype if dtype is None else dtype
    )
    editing_plan = _planned_editing(method, task, start)
    announce(str(editing_plan))
    model = replace(task.model, rows_at_once=editing_plan.facts)
    report = shown(f"{prefix}editing")
    bounds = points(task.edits.batches, asked)
    editing = _edit(method, model, task, start, bounds, folder and folder / "stream", report)
    return _measured(method, task, editing, bounds, loop.seconds)


class _SavedLoop:
    """The `TrainingLoop` that saves and reports; a further training of a method has a folder of
    its own."""

    def __init__(self, folder: Path | None, begin: Callable[[], Report], mesh: Mesh | None):
        self._folder, self._begin, self._mesh = folder, begin, mesh
        self._calls = 0
        self.seconds = 0.0

    def __call__(
        self,
        start: PyTree,
        advance: Advance,
        steps: int,
        *,
        metrics: Sequence[str] = (),
        chunk: int = CHUNK,
    ) -> PyTree:
        self._calls += 1
        folder = self._folder
        if folder is not None and self._calls > 1:
            folder = folder.with_name(f"{folder.name}-{self._calls}")

        def recorded(state: PyTree, done: int, size: int) -> tuple[PyTree, Mapping[str, Any]]:
            state, found = advance(state, done, size)
            return state, {name: found[name] for name in metrics}

        record = {name: np.zeros(steps, np.float32) for name in metrics}
        report = self._begin()
        run = _run_on_mesh(
            self._mesh, start, record, recorded, total=steps, chunk=chunk, folder=folder,
            report=report,
        )  # fmt: skip
        self.seconds += run.seconds
        return run.state


def _run_on_mesh(
    mesh: Mesh | None,
    start: PyTree,
    record: Mapping[str, np.ndarray],
    advance: Advance,
    **options: Any,
) -> CompletedRun:
    """`run_chunks` of a state that stays where it lies on a mesh, and is put back there."""
    if mesh is None:
        return run_chunks(start, record, advance, **options)
    start = laid_out(start, mesh)
    layout = Layout.of(start)

    def placed(state: PyTree, done: int, steps: int) -> tuple[PyTree, Mapping[str, Any]]:
        # The compiler chooses how results lie; what is compiled ahead of time takes but one layout.
        state, found = advance(state, done, steps)
        return layout.place(state), found

    return run_chunks(start, record, placed, placement=layout, **options)


def planned(method: StreamEditor, task: FactTask) -> FactPlan:
    """How a method fits into the memory of a prepared task; errors as `sized_for`, `plan_facts`."""
    assert task.scoring is not None
    sized = method.sized_for(task.model, task.streams)
    return plan_facts(sized, task.model, task.train, task.scoring)


def _planned_editing(method: StreamEditor, task: FactTask, start: StreamState) -> EditingPlan:
    assert task.scoring is not None
    return plan_editing(method, task.model, start, task.edits, task.scoring)


def _unsaid(line: str) -> None:
    """Where nobody wants to know how a method fits into the memory."""


def _edit(
    method: StreamEditor,
    model: EditableModel,
    task: FactTask,
    start: StreamState,
    bounds: Sequence[int],
    folder: Path | None,
    report: Report,
) -> CompletedRun:
    """Edits all batches, asking about the edits so far after each of the `points`.

    ``model`` is that of the task, which reads as many rows at a time as the method may.
    """
    edits, questions = task.edits, task.questions
    mesh = mesh_of(model.params)
    if mesh is not None:
        # Where a state does not lie on the mesh, the compiler would choose how it is to be given.
        start = laid_out(start, mesh)
    unedited = unedited_answers(task.model, questions)
    ask = partial(
        score_stream, task.model, questions=questions, real=edits.real, unedited=unedited,
        first=task.first,
    )  # fmt: skip
    # Ahead of time, so that it is not taken for editing.
    zero = jnp.int32(0)
    compiled = compiled_stream.lower(method, model, start, edits, zero, zero).compile()

    def advance(state: StreamState, done: int, _: int) -> tuple[StreamState, dict[str, Any]]:
        begin, end = bounds[done], bounds[done + 1]
        clock = time.perf_counter()
        state, trace = jax.block_until_ready(
            compiled(model, state, edits, jnp.int32(begin), jnp.int32(end))
        )
        seconds = time.perf_counter() - clock
        summary, remembered = ask(state.kernels, batches=jnp.int32(end))
        norms = trace.change_norms[begin:end]
        each = {
            **summary,
            "seconds": seconds,
            "masks": trace.masks[begin:end].mean(0),
            "change_norm": jnp.sqrt((norms**2).sum(1)).mean(),
            "remembered": remembered.reshape(-1),
        }
        return state, {name: np.asarray(value)[None] for name, value in each.items()}

    names, _ = jax.eval_shape(ask, start.kernels, batches=zero)
    count = len(bounds) - 1
    record = {name: np.zeros(count) for name in (*names, "seconds", "change_norm")}
    record["masks"] = np.zeros((count, len(model.modules)))
    record["remembered"] = np.zeros((count, edits.real.size))
    return _run_on_mesh(mesh, start, record, advance, chunk=1, folder=folder, report=report)


def _measured(
    method: StreamEditor,
    task: FactTask,
    editing: CompletedRun,
    bounds: Sequence[int],
    learning: float,
) -> FactRun:
    """The numbers of one method."""
    state: StreamState = editing.state
    real = task.edits.real
    batches = task.edits.batches
    besides = score_besides(
        task.model, state.kernels, task.sentences, task.untouched, task.known, task.choices
    )
    curves = dict(editing.record)
    seconds, masks = curves.pop("seconds").sum(), curves.pop("masks")
    if method.finds_ahead is not None:
        seconds += task.seconds_ahead
    remembered = jnp.asarray(curves.pop("remembered")[-1], jnp.float32).reshape(real.shape)
    ages, retention = retention_by_age(remembered, real, min(GROUPS, batches))
    edited = np.cumsum(np.asarray(real).sum(1))
    metrics = {name: float(values[-1]) for name, values in curves.items()}
    metrics |= {name: float(value) for name, value in besides.items()}
    metrics["modules_per_edit"] = _per_batch(masks, bounds)
    metrics["ms_per_edit"] = 1e3 * float(seconds) / int(edited[-1])
    metrics["state_bytes"] = float(sum(leaf.nbytes for leaf in jax.tree.leaves(state.editor)))
    return FactRun(
        state.kernels,
        state.editor,
        metrics,
        edited[np.array(bounds[1:]) - 1],
        curves,
        masks,
        task.model.modules,
        np.asarray(ages),
        np.asarray(retention),
        Cost(
            gradient_steps=method.gradient_steps(batches),
            seconds=learning + editing.seconds,
        ),
        task.contexts[: method.contexts],
        int(task.model.statistics.count) if task.model.statistics and method.reads_text else 0,
    )


def _per_batch(masks: np.ndarray, bounds: Sequence[int]) -> float:
    """Modules changed by a batch; points lie ever further apart."""
    return float(masks.sum(1) @ np.diff(bounds) / bounds[-1])


def points(total: int, most: int = POINTS) -> list[int]:
    """Batches done at the start and at each point, ever further apart: by `FACTOR` or more.

    Args:
      total: batches of the stream; the last point is its end.
      most: points at most.
    """
    count = min(most, 1 + int(np.log(total) / np.log(FACTOR)))
    if count == 1:
        return [0, total]
    bounds = [0]
    for step in np.geomspace(1, total, count).round():
        bounds.append(max(int(step), bounds[-1] + 1))  # the first ones lie closer than one batch
    return bounds


def _silent(_: str) -> Report:
    return lambda done, total, metrics: None
