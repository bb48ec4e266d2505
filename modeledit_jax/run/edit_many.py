"""Many tasks in one call: side by side where a search can, one after another otherwise.

A search advances all tasks in one jitted, vmapped call per chunk. Between chunks a plain Python
loop reports and saves (`run.resumable`); nothing inside the compiled code calls back. Other editors
take the tasks in turn, and what is done is kept. Whatever stops a run, an interrupt or a kill, a
resumed one gives the same bits as one that was never stopped.
"""

from collections.abc import Callable, Mapping, Sequence
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

from modeledit_jax.editors.editor import Editor, EditResult, checked
from modeledit_jax.editors.search.search import SearchEditor, static_form
from modeledit_jax.edits.site import get_leaves, leaf_paths, set_leaves
from modeledit_jax.envs.stacking import difference, shapes_differ
from modeledit_jax.envs.task_pool import make_pool, networks_of
from modeledit_jax.envs.world import World
from modeledit_jax.memory import default_budget
from modeledit_jax.mesh import TASKS, axis_size
from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.json_text import as_object
from modeledit_jax.run.checkpoint import load_tree, save_tree
from modeledit_jax.run.digested_json import read_digested, write_digested
from modeledit_jax.run.identity import identities
from modeledit_jax.run.kept_edit import DAMAGED, read_kept_edit
from modeledit_jax.run.memory_plan import MemoryPlan, plan_memory
from modeledit_jax.run.plan_evaluation import apply_plan
from modeledit_jax.run.search_run import Searches, SearchRun, run_search
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Leaves, Params, Report

_CLAIM = "search.json"
_MOST_PARTS = 1_000_000_000


@dataclass(frozen=True)
class Options:
    """Of `edit_many`, for searches."""

    mesh: Mesh | None
    memory: int | None
    report: Report
    announce: Callable[[str], None] | None


def edit_many(
    editor: Editor | Sequence[Editor],
    tasks: Sequence[Task],
    key: Key,
    folder: str | Path | None = None,
    *,
    mesh: Mesh | None = None,
    memory: int | None = None,
    report: Report | None = None,
    announce: Callable[[str], None] | None = None,
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
      memory: bytes that a search may take on each device; it takes fewer tasks and candidates at a
        time where all do not fit (`run.memory_plan`). None: `default_budget`.
      report: called as the work proceeds with ``(done, of, {name: [steps, B, ...]})`` by a search,
        without numbers by other editors and where tasks are taken in parts; None: a progress bar.
      announce: called with a line that says how a search fits into the memory.

    Returns:
      The edited network of each task. A search's trace has the axes ``[K, ...]``, its seconds are
      those of all tasks divided by ``B``. What another editor has left in a folder has no trace.

    Raises:
      ValueError: no task, one that does not fit the editor, a reward function that returned a value
        that is not finite, a folder with other work in it, or a memory too small for one candidate.
    """
    if not tasks:
        raise ValueError("there is nothing to edit: give at least one task")
    editors = [editor] * len(tasks) if isinstance(editor, Editor) else list(editor)
    if len(editors) != len(tasks):
        raise ValueError(
            f"{len(editors)} editors for {len(tasks)} tasks: give one, or one for each"
        )
    keys = _keys(key, len(tasks))
    path = None if folder is None else Path(folder)
    with tqdm(desc=type(editors[0]).__name__, disable=report is not None, leave=False) as bar:

        def show(done: int, total: int, record: Mapping[str, np.ndarray]) -> None:
            bar.total = total
            bar.update(done - bar.n)

        shown = show if report is None else report
        searches = [editor for editor in editors if isinstance(editor, SearchEditor)]
        if len(searches) == len(editors) and (alike := _alike(searches, tasks)):
            options = Options(mesh, memory, shown, announce)
            return _side_by_side(*alike, tasks, keys, path, options)
        return _in_turn(editors, tasks, keys, path, shown)


def _keys(key: Key, count: int) -> Key:
    """One for each task."""
    keys = key if key.shape else jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(count))
    if keys.shape != (count,):
        raise ValueError(f"keys of shape {keys.shape} for {count} tasks: give one for each")
    return keys


def _alike(
    searches: Sequence[SearchEditor], tasks: Sequence[Task]
) -> tuple[Searches, World] | None:
    """Searches and world of all tasks, or None where they do not fit side by side."""
    forms = [static_form(search) for search in searches]
    if any(form != forms[0][0] for form, _ in forms):
        return None
    env = searches[0].make_world(tasks[0]).static
    chosen = networks_of(tasks)[0]
    if any(searches[i].make_world(tasks[i]).static != env for i in chosen):
        return None
    examples = [(tasks[i].roles["reward"].x, tasks[i].roles["reward"].targets) for i in chosen]
    if any(shapes_differ(examples[0], other) for other in examples):
        return None
    requests = [env.request_params(task) for task in tasks]
    if any(difference(requests[0], other) for other in requests):
        return None
    arrays = jax.tree.map(lambda *each: jnp.stack(each), *[array for _, array in forms])
    return Searches(searches[0], arrays), env


def _side_by_side(
    searches: Searches,
    env: World,
    tasks: Sequence[Task],
    keys: Key,
    folder: Path | None,
    options: Options,
) -> list[EditResult]:
    stored = None
    if folder is not None:
        identity = identities([(searches, list(tasks), keys)])[0]
        stored = _claimed(folder, identity)
    budget = default_budget() if options.memory is None else options.memory
    devices = axis_size(options.mesh, TASKS)
    plan = plan_memory(searches.search, env, tasks, budget, devices, parts=stored)
    if options.announce is not None:
        options.announce(str(plan))
    if folder is not None:
        _claim(folder, identity, len(plan.parts))
    results: dict[int, EditResult] = {}
    for number, part in enumerate(plan.parts):
        try:
            run = _run_part(searches, env, tasks, keys, folder, options, plan, number)
        except ValueError:
            if folder is not None and not _has_checkpoints(folder):
                (folder / _CLAIM).unlink(missing_ok=True)  # there is nothing to continue
            raise
        for row, index in enumerate(part):
            trace = jax.tree.map(itemgetter(row), run.trace)
            results[index] = _edited(env, tasks[index], replace(run, trace=trace))
    return [results[index] for index in range(len(tasks))]


def _run_part(
    searches: Searches,
    env: World,
    tasks: Sequence[Task],
    keys: Key,
    folder: Path | None,
    options: Options,
    plan: MemoryPlan,
    number: int,
) -> SearchRun:
    """The search over the tasks of one part."""
    part, parts = np.asarray(plan.parts[number]), len(plan.parts)
    report = options.report
    if parts > 1:
        folder = None if folder is None else folder / f"part-{number}"
        # Numbers of some of the tasks would say nothing to who expects those of all.
        report = lambda done, total, _: options.report(number * total + done, parts * total, {})  # noqa: E731
    return run_search(
        searches.take(part, plan.candidates if plan.fewer_candidates else None),
        env,
        make_pool(env, [tasks[index] for index in part]),
        keys[part],
        folder=folder,
        at_once=plan.tasks,
        mesh=options.mesh,
        report=report,
    )


def _edited(env: World, task: Task, run: SearchRun) -> EditResult:
    """The result of one task, whose trace the run holds."""
    original = {path: jnp.asarray(leaf) for path, leaf in task.leaves.items()}
    plan = jnp.asarray(run.trace.plans[-1])
    leaves = apply_plan(env, plan, original, env.task_bases(task))
    return checked(task, EditResult(set_leaves(task.subject.params, leaves), run.cost, run.trace))


def _claimed(folder: Path, identity: str) -> int | None:
    """In how many parts a folder holds this work; None: it holds none.

    Raises:
      ValueError: it holds other work.
    """
    about = folder / _CLAIM
    if not about.is_file() or not _has_checkpoints(folder):
        return None
    content = as_object(read_digested(about, DAMAGED), str(about), DAMAGED)
    stored = Fields(content, str(about), cure="delete its folder")
    _check_same(stored.text("identity"), identity, folder)
    return stored.integer("parts", 1, _MOST_PARTS)


def _claim(folder: Path, identity: str, parts: int) -> None:
    """Notes whose checkpoints are in a folder."""
    write_digested(folder / _CLAIM, {"identity": identity, "parts": parts})


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
    write_digested(about, content)
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
