"""Runs a search over many tasks in compiled chunks: progress, checkpoints, resume.

All tasks advance side by side in one jitted, vmapped call per chunk. Between chunks this plain
Python loop reports and saves; nothing inside the compiled code calls back. Whatever stops it, an
interrupt or a kill, a resumed search continues from the newest checkpoint and gives the same bits
as one that was never stopped, because chunks are cut at the same updates either way.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.editors.editor import (
    Cost,
    EditResult,
    Search,
    SearchTrace,
    check_rewards,
    run_update,
    updates_within,
)
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.world import World, WorldParams, stack_params
from modeledit_jax.run.checkpoint import Checkpoints
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, PyTree

Report = Callable[[int, int, SearchTrace], None]


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
    search: Search,
    env: World,
    params: WorldParams,
    keys: Key,
    budget: int,
    *,
    folder: Path | None = None,
    chunk: int = 10,
    save_every: float = 2.0,
    report: Report | None = None,
) -> SearchRun:
    """Searches for ``B`` tasks at once.

    Args:
      search: any `Search`.
      env: world of all tasks.
      params: stacked, leading axis ``B`` (`stack_params`).
      keys: ``[B]``.
      budget: reward evaluations of each task.
      folder: for checkpoints; a search found there is continued. None: keep nothing.
      chunk: updates of one compiled call.
      save_every: seconds between checkpoints, which follow a chunk; the last chunk is always saved.
      report: called after every chunk with ``(updates done, of, trace of the chunk)``.

    Raises:
      ValueError: a budget below one update, a reward function that returned NaN, or a checkpoint
        of another configuration.
    """
    total = updates_within(search, budget)
    checkpoints = Checkpoints(folder) if folder else None
    done, saved = _first_or_saved(search, env, params, keys, total, checkpoints)
    advance = _compiled(search, env, chunk)
    state, record, seconds = saved["state"], saved["record"], float(saved["seconds"])
    begin = last_save = time.perf_counter()
    try:
        while done < total:
            length = min(chunk, total - done)
            state, trace = jax.block_until_ready(advance(params, state, jnp.int32(length)))
            trace = jax.tree.map(lambda values, length=length: values[:, :length], trace)
            check_rewards(trace.metrics)
            jax.tree.map(partial(_write, begin=done), record, trace)
            done += length
            if report is not None:
                report(done, total, trace)
            now = time.perf_counter()
            if checkpoints and (now - last_save >= save_every or done == total):
                _save(checkpoints, done, state, record, seconds + now - begin)
                last_save = time.perf_counter()
    finally:
        if checkpoints:
            checkpoints.close()
    seconds += time.perf_counter() - begin
    return SearchRun(trace=record, cost=_cost(search, total, seconds / keys.shape[0]))


def _first_or_saved(
    search: Search,
    env: World,
    params: WorldParams,
    keys: Key,
    total: int,
    checkpoints: Checkpoints | None,
) -> tuple[int, dict[str, Any]]:
    """Updates done, and what a checkpoint holds: the newest one, or that of a fresh search."""
    state = jax.jit(jax.vmap(partial(search.init, env)))(params, keys)
    shapes = jax.eval_shape(jax.vmap(partial(run_update, search, env)), params, state)[1]
    record = jax.tree.map(lambda s: np.zeros((keys.shape[0], total, *s.shape[1:]), s.dtype), shapes)
    saved: dict[str, Any] = {"state": state, "record": record, "seconds": np.float64(0.0)}
    if checkpoints and (found := checkpoints.restore(saved)):
        done, saved = found
        return done, saved | {"record": jax.tree.map(np.array, saved["record"])}
    return 0, saved


def _compiled(
    search: Search, env: World, chunk: int
) -> Callable[[WorldParams, PyTree, Array], tuple[PyTree, SearchTrace]]:
    """``(params, state, length)`` -> state and trace of all tasks; the old state is used up.

    ``length`` is a number at run time, at most ``chunk``, so that a shorter last chunk is not
    compiled anew. The trace has room for ``chunk`` updates.
    """

    def many(length: Array, params: WorldParams, state: PyTree) -> tuple[PyTree, SearchTrace]:
        shapes = jax.eval_shape(partial(run_update, search, env), params, state)[1]
        room = jax.tree.map(lambda s: jnp.zeros((chunk, *s.shape), s.dtype), shapes)

        def step(index: Array, carry: Any) -> Any:
            state, trace = carry
            state, last = run_update(search, env, params, state)
            return state, jax.tree.map(lambda every, one: every.at[index].set(one), trace, last)

        return jax.lax.fori_loop(0, length, step, (state, room))

    @partial(jax.jit, donate_argnames="state")
    def advance(params: WorldParams, state: PyTree, length: Array) -> tuple[PyTree, SearchTrace]:
        return jax.vmap(many, in_axes=(None, 0, 0))(length, params, state)

    return advance


def _write(target: np.ndarray, values: jax.Array, *, begin: int) -> None:
    target[:, begin : begin + values.shape[1]] = np.asarray(values)


def _save(
    checkpoints: Checkpoints, done: int, state: PyTree, record: SearchTrace, seconds: float
) -> None:
    tree = {"state": state, "record": record, "seconds": np.float64(seconds)}
    checkpoints.save(done, tree)


def _cost(search: Search, updates: int, seconds: float) -> Cost:
    return Cost(
        reward_evaluations=updates * search.evaluations_per_update,
        gradient_steps=updates * search.gradient_steps_per_update,
        seconds=seconds,
    )


def final_plans(run: SearchRun) -> jax.Array:
    """The plans ``[B, T, A]`` the search has settled for."""
    return jnp.asarray(run.trace.plans[:, -1])


def edit_tasks(
    search: Search,
    env: World,
    tasks: Sequence[Task],
    key: Key,
    budget: int,
    *,
    chunk: int = 10,
    report: Report | None = None,
) -> list[EditResult]:
    """Edits one network per task, all side by side: `run_search` from tasks to edited networks.

    Args:
      search: any `Search`.
      env: a world whose site and example shapes are those of every task.
      tasks: ``B`` tasks whose rewards are of one kind; networks, requests and the reward's
        numbers may differ.
      key: split once per task.
      budget: reward evaluations of each task.
      chunk, report: see `run_search`.

    Returns:
      The edited network of each task, with its own share of the trace (axes ``[K, ...]``).

    Raises:
      ValueError: as `run_search`, or a task that does not fit the world.
    """
    params = stack_params([env.params(task) for task in tasks])
    keys = jax.random.split(key, len(tasks))
    run = run_search(search, env, params, keys, budget, chunk=chunk, report=report)
    leaves = jax.jit(jax.vmap(env.apply_plan))(final_plans(run), params.original)
    return [
        EditResult(
            params=set_leaves(task.subject.params, jax.tree.map(itemgetter(index), leaves)),
            cost=run.cost,
            trace=jax.tree.map(itemgetter(index), run.trace),
        )
        for index, task in enumerate(tasks)
    ]
