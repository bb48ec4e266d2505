"""Many tasks in one call: side by side where a search can, one after another otherwise.

A search advances all tasks in one jitted, vmapped call per chunk. Between chunks a plain Python
loop reports and saves (`run.resumable`); nothing inside the compiled code calls back. Other editors
take the tasks in turn, and what is done is kept. Whatever stops a run, an interrupt or a kill, a
resumed one gives the same bits as one that was never stopped.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from modeledit_jax.editors.editor import Editor, EditResult, checked
from modeledit_jax.editors.search.search import SearchEditor, static_form
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.envs.stacking import UnlikeTasksError
from modeledit_jax.envs.task_pool import TaskPool, make_pool
from modeledit_jax.envs.world import World
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.checkpoint import load_tree, save_tree
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.identity import identities
from modeledit_jax.run.kept_edit import DAMAGED, read_kept_edit
from modeledit_jax.run.plan_evaluation import PlanEvaluator
from modeledit_jax.run.search_run import Searches, run_search
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Leaves, Params, Report

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
) -> tuple[Searches, World, TaskPool] | None:
    """Searches, world and params of all tasks, or None where they do not fit side by side."""
    forms = [static_form(search) for search in searches]
    if any(form != forms[0][0] for form, _ in forms):
        return None
    env = searches[0].make_world(tasks[0]).static
    if any(s.make_world(task).static != env for s, task in _of_networks(searches, tasks)):
        return None
    try:
        pool = make_pool(env, tasks)
    except UnlikeTasksError:
        return None
    arrays = jax.tree.map(lambda *each: jnp.stack(each), *[array for _, array in forms])
    return Searches(searches[0], arrays), env, pool


def _of_networks(
    searches: Sequence[SearchEditor], tasks: Sequence[Task]
) -> list[tuple[SearchEditor, Task]]:
    """One task of every network, site and array of examples, which alone make a world."""
    each = zip(searches, tasks, strict=True)
    found = {(id(t.subject), t.site, id(t.roles["reward"].x)): (s, t) for s, t in each}
    return list(found.values())


def _side_by_side(
    searches: Searches,
    env: World,
    pool: TaskPool,
    tasks: Sequence[Task],
    keys: Key,
    folder: Path | None,
    mesh: Mesh | None,
    report: Report,
) -> list[EditResult]:
    if folder is not None:
        _claim(folder, identities([(searches, list(tasks), keys)])[0])
    try:
        run = run_search(searches, env, pool, keys, folder=folder, mesh=mesh, report=report)
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
