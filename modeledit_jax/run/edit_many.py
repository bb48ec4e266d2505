"""Many tasks in one call: side by side where a search can, one after another otherwise.

A search advances all tasks in one jitted, vmapped call per chunk. Between chunks a plain Python
loop reports and saves (`run.resumable`); nothing inside the compiled code calls back. Other editors
take the tasks in turn, and what is done is kept. Whatever stops a run, an interrupt or a kill, a
resumed one gives the same bits as one that was never stopped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from modeledit_jax.editors.editor import Cost, Editor, EditResult, checked
from modeledit_jax.editors.search.search import (
    SearchEditor,
    SearchTrace,
    StaticForm,
    check_rewards,
    from_static_form,
    run_update,
    static_form,
)
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.envs.stacking import difference, stack_params
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.mesh import Spread
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.checkpoint import load_tree, save_tree
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.identity import identities
from modeledit_jax.run.kept_edit import DAMAGED, read_kept_edit
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.run.resumable import run_chunks
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves, Params, PyTree, Report

CHUNK = 10
"""Updates of one compiled call."""

SAVE_EVERY = 2.0
"""Seconds between the checkpoints of a search."""

_CLAIM = "search.json"


def edit_many(
    editor: Editor | Sequence[Editor],
    tasks: Sequence[Task],
    key: Key,
    folder: str | Path | None = None,
    *,
    mesh: Mesh | None = None,
    report: Report | None = None,
) -> list[EditResult]:
    """Edits one network per task.

    Args:
      editor: any, or one for each task. A `SearchEditor` edits all networks side by side if the
        tasks' sites and examples have equal shapes and their rewards are of one kind; networks,
        requests and the reward's numbers may differ. Of several editors only arrays may differ.
      tasks: ``B`` tasks.
      key: one, which is folded with the number of each task, or ``[B]``.
      folder: where the work is kept; a run found there is continued. None: keep nothing.
      mesh: devices that a search spreads its tasks over (axis ``tasks``), and its candidates
        (``population``); a folder may be continued on others. None: one device.
      report: called as the work proceeds with ``(done, of, {name: [steps, B, ...]})`` by a search,
        and without numbers by other editors; None: a progress bar.

    Returns:
      The edited network of each task. A search's trace has the axes ``[K, ...]``, its seconds are
      those of all tasks divided by ``B``. What another editor has left in a folder has no trace.

    Raises:
      ValueError: no task, one that does not fit the editor, a reward function that returned a value
        that is not finite, or a folder with other work in it.
    """
    if not tasks:
        raise ValueError("there is nothing to edit: give at least one task")
    editors = [editor] * len(tasks) if isinstance(editor, Editor) else list(editor)
    if len(editors) != len(tasks):
        raise ValueError(
            f"{len(editors)} editors for {len(tasks)} tasks: give one, or one for each"
        )
    keys = key
    if not key.shape:
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(tasks)))
    if keys.shape != (len(tasks),):
        raise ValueError(f"keys of shape {keys.shape} for {len(tasks)} tasks: give one for each")
    path = None if folder is None else Path(folder)
    with tqdm(desc=type(editors[0]).__name__, disable=report is not None, leave=False) as bar:

        def show(done: int, total: int, record: Mapping[str, np.ndarray]) -> None:
            bar.total = total
            bar.update(done - bar.n)

        shown = show if report is None else report
        searches = [editor for editor in editors if isinstance(editor, SearchEditor)]
        if len(searches) == len(editors) and (stacked := _stacked(searches, tasks)):
            return _side_by_side(*stacked, tasks, keys, path, mesh, shown)
        return _in_turn(editors, tasks, keys, path, shown)


def _stacked(
    searches: Sequence[SearchEditor], tasks: Sequence[Task]
) -> tuple["Searches", World, WorldParams] | None:
    """Searches, world and params of all tasks, or None where they do not fit side by side."""
    forms = [static_form(search) for search in searches]
    worlds = [s.make_world(task).static for s, task in zip(searches, tasks, strict=True)]
    if any(form != forms[0][0] for form, _ in forms) or any(w != worlds[0] for w in worlds):
        return None
    params = PlanEvaluator(worlds[0], tasks).task_params()
    if any(difference(params[0], other) for other in params):
        return None
    arrays = jax.tree.map(lambda *each: jnp.stack(each), *[array for _, array in forms])
    return Searches(searches[0], arrays), worlds[0], stack_params(params)


def _side_by_side(
    searches: "Searches",
    env: World,
    params: WorldParams,
    tasks: Sequence[Task],
    keys: Key,
    folder: Path | None,
    mesh: Mesh | None,
    report: Report,
) -> list[EditResult]:
    if folder is not None:
        _claim(folder, identities([(searches, list(tasks), keys)])[0])
    try:
        run = run_search(searches, env, params, keys, folder=folder, mesh=mesh, report=report)
    except ValueError:
        if folder is not None and not _has_checkpoints(folder):
            (folder / _CLAIM).unlink(missing_ok=True)  # there is nothing to continue
        raise
    evaluator = PlanEvaluator(env, tasks)
    results = []
    for index, task in enumerate(tasks):
        edited = evaluator.edited(index, run.trace.plans[index, -1])
        params = set_leaves(task.subject.params, edited)
        trace = jax.tree.map(itemgetter(index), run.trace)
        results.append(checked(task, EditResult(params, run.cost, trace)))
    return results


def _claim(folder: Path, identity: str) -> None:
    """Notes whose checkpoints are in a folder; ValueError if there are those of other work."""
    about = folder / _CLAIM
    folder.mkdir(parents=True, exist_ok=True)
    if about.is_file() and _has_checkpoints(folder):
        _check_same(read_object(about, DAMAGED).get("identity"), identity, folder)
    atomic_write_text(about, json.dumps({"identity": identity}))


def _has_checkpoints(folder: Path) -> bool:
    return any(entry.is_dir() for entry in folder.iterdir())


def _check_same(stored: Any, identity: str, folder: Path) -> None:
    if stored != identity:
        raise ValueError(
            f"{folder} holds work of other settings or on another task: choose another folder, or "
            "delete it to start afresh"
        )


def _in_turn(
    editors: Sequence[Editor],
    tasks: Sequence[Task],
    keys: Key,
    folder: Path | None,
    report: Report,
) -> list[EditResult]:
    results, work = [], list(zip(editors, tasks, keys, strict=True))
    names = [""] * len(work) if folder is None else identities(work)
    for index, (editor, task, key) in enumerate(work):
        if folder is None:
            result = checked(task, editor.edit(task, key))
        else:
            result = _kept(editor, task, key, folder / f"{index}-{task.name}", names[index])
        results.append(result)
        report(index + 1, len(tasks), {})
    return results


def _kept(editor: Editor, task: Task, key: Key, folder: Path, identity: str) -> EditResult:
    """One edit, from its folder if it was made there; leaves that did not change are not kept."""
    about = folder / "edit.json"
    if about.is_file():
        stored = read_kept_edit(about)
        _check_same(stored.identity, identity, folder)
        stored.check_leaves(leaf_paths(task.subject.params), about)
        unedited = get_leaves(task.subject.params, stored.changed)
        changed = load_tree(folder / "leaves", like=unedited) if unedited else {}
        return EditResult(set_leaves(task.subject.params, changed), stored.cost)
    result = checked(task, editor.edit(task, key))
    leaves = _changed(task.subject.params, result.params)
    if leaves:
        save_tree(folder / "leaves", leaves)
    content = {"identity": identity, "cost": asdict(result.cost), "changed": list(leaves)}
    atomic_write_text(about, json.dumps(content))
    return result


def _changed(unedited: Params, edited: Params) -> Leaves:
    """The leaves of ``edited`` that differ."""
    paths = leaf_paths(unedited)
    before, after = get_leaves(unedited, paths), get_leaves(edited, paths)
    return {
        path: after[path]
        for path in paths
        if after[path] is not before[path] and not np.array_equal(after[path], before[path])
    }


@dataclass(frozen=True)
class Searches:
    """One search for each of ``B`` tasks.

    Attributes:
      search: what they share.
      arrays: leaves of the search that are arrays, ``[B, ...]``, in order; None for all others.
    """

    search: SearchEditor
    arrays: list[Array | None]

    @classmethod
    def of(cls, search: SearchEditor, count: int) -> "Searches":
        """The same search for all tasks."""
        arrays = static_form(search)[1]
        return cls(search, jax.tree.map(lambda x: jnp.stack([x] * count), arrays))


@dataclass(frozen=True)
class SearchRun:
    """What a search over ``B`` tasks found.

    Attributes:
      trace: plans ``[B, K, T, A]`` and metrics ``{name: [B, K]}`` as NumPy arrays.
      cost: of one task; ``seconds`` is the time of all tasks divided by ``B``.
    """

    trace: SearchTrace
    cost: Cost


def run_search(
    searches: Searches,
    env: World,
    params: WorldParams,
    keys: Key,
    *,
    folder: Path | None = None,
    chunk: int = CHUNK,
    save_every: float = SAVE_EVERY,
    mesh: Mesh | None = None,
    report: Report | None = None,
) -> SearchRun:
    """Searches for ``B`` tasks at once.

    Args:
      searches: of the tasks.
      env: world of all tasks.
      params: stacked, leading axis ``B`` (`stack_params`).
      keys: ``[B]``.
      folder: for checkpoints; a search found there is continued. None: keep nothing.
      chunk: updates of one compiled call.
      save_every: seconds between checkpoints, which follow a chunk; the last chunk is always saved.
      mesh: see `edit_many`.
      report: called after every chunk; see `run_chunks`. The record holds ``plans``
        ``[steps, B, T, A]`` and the metrics of the search, ``[steps, B]``.

    Raises:
      ValueError: a budget below one update, a reward function that returned NaN, or a checkpoint
        of another configuration.
    """
    search, arrays, env = searches.search, searches.arrays, env.static
    total, form = search.updates, static_form(search)[0]
    tasks, spread = keys.shape[0], None
    if mesh is not None:
        spread = Spread(mesh, tasks)
        arrays, params, keys = spread.place((arrays, params, keys))
    state = _init(form, env, spread, arrays, params, keys)
    shapes = jax.eval_shape(partial(_update, form, env), arrays, params, state)[1]
    record = _room(total, tasks, shapes)

    def advance(state: PyTree, done: int, steps: int) -> tuple[PyTree, dict[str, Any]]:
        state, trace = _advance(form, env, chunk, spread, arrays, params, state, jnp.int32(steps))
        trace = trace if spread is None else spread.gather(trace)
        check_rewards(trace.metrics)
        values = {"plans": trace.plans, **trace.metrics}
        return state, {name: np.asarray(x).swapaxes(0, 1)[:steps] for name, x in values.items()}

    run = run_chunks(
        state,
        record,
        advance,
        chunk=chunk,
        folder=folder,
        save_every=save_every,
        placement=spread,
        report=report,
    )
    by_task = {name: np.swapaxes(values, 0, 1) for name, values in run.record.items()}
    cost = replace(search.cost, seconds=run.seconds / tasks)
    return SearchRun(SearchTrace(by_task.pop("plans"), by_task), cost)


def _room(total: int, tasks: int, shapes: SearchTrace) -> dict[str, np.ndarray]:
    """Zeros ``[total, tasks, ...]`` for the traces of all updates."""
    found = {"plans": shapes.plans, **shapes.metrics}
    return {name: np.zeros((total, tasks, *x.shape[1:]), x.dtype) for name, x in found.items()}


@partial(jax.jit, static_argnums=(0, 1, 2))
def _init(
    form: StaticForm,
    env: World,
    spread: Spread | None,
    arrays: list[Array | None],
    params: WorldParams,
    keys: Key,
) -> PyTree:
    """The first states of all tasks."""

    def one(arrays: list[Array | None], params: WorldParams, key: Key) -> PyTree:
        state = from_static_form(form, arrays).init(env, params, key)
        # Of definite types, as after an update: else the second chunk would be compiled anew.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    each = jax.vmap(one)
    return (each if spread is None else spread.each(each))(arrays, params, keys)


@partial(jax.jit, static_argnums=(0, 1))
def _update(
    form: StaticForm, env: World, arrays: list[Array | None], params: WorldParams, state: PyTree
) -> tuple[PyTree, SearchTrace]:
    """One update of all tasks; jitted, so that its trace, which takes long, is made once for all
    who ask for shapes or call it, and never compiled alone."""

    def one(
        arrays: list[Array | None], params: WorldParams, state: PyTree
    ) -> tuple[PyTree, SearchTrace]:
        return run_update(from_static_form(form, arrays), env, params, state)

    return jax.vmap(one)(arrays, params, state)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=6)
def _advance(
    form: StaticForm,
    env: World,
    chunk: int,
    spread: Spread | None,
    arrays: list[Array | None],
    params: WorldParams,
    state: PyTree,
    length: Array,
) -> tuple[PyTree, SearchTrace]:
    """Makes ``length`` updates for all tasks: their states, and traces ``[B, chunk, ...]``.

    ``length`` is a number at run time, at most ``chunk``, so that a shorter last chunk is not
    compiled anew. The traces have room for ``chunk`` updates.
    """

    def many(
        length: Array, arrays: list[Array | None], params: WorldParams, state: PyTree
    ) -> tuple[PyTree, SearchTrace]:
        shapes = jax.eval_shape(partial(_update, form, env), arrays, params, state)[1]
        room = jax.tree.map(lambda s: jnp.zeros((s.shape[0], chunk, *s.shape[1:]), s.dtype), shapes)

        def step(index: Array, carry: Any) -> Any:
            state, trace = carry
            state, last = _update(form, env, arrays, params, state)
            return state, jax.tree.map(lambda every, one: every.at[:, index].set(one), trace, last)

        return jax.lax.fori_loop(0, length, step, (state, room))

    run = many if spread is None else spread.each(many, shared=1)
    return run(length, arrays, params, state)
