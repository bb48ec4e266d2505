"""A search over many tasks in one compiled call per chunk.

Tasks are advanced in groups (`run.task_layout`), each for a whole chunk of updates before the next,
so that what a group works on stays in the cache of a CPU, and in the memory of any device. Between
chunks a plain Python loop reports and saves (`run.resumable`); nothing inside the compiled code
calls back.
"""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.batching import tasks_at_once
from modeledit_jax.editors.search.search import (
    SearchEditor,
    SearchTrace,
    StaticForm,
    check_rewards,
    from_static_form,
    run_update,
    static_form,
)
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.task_pool import TaskPool
from modeledit_jax.envs.world import World
from modeledit_jax.mesh import Spread
from modeledit_jax.run.resumable import CompletedRun, run_chunks
from modeledit_jax.run.task_layout import Group, TaskLayout, task_layout
from modeledit_jax.types import Array, Key, PyTree, Report

CHUNK = 10
"""Updates of one compiled call."""

SAVE_EVERY = 2.0
"""Seconds between the checkpoints of a search."""


@dataclass(frozen=True)
class Searches:
    """One search for each of ``B`` tasks.

    Attributes:
      search: what they share.
      arrays: leaves of the search that are arrays, ``[B, ...]``, in order; None for all others.
    """

    search: SearchEditor
    arrays: list[Array | None]

    def take(self, rows: np.ndarray, batch_size: int | None = None) -> "Searches":
        """Those of some of the tasks, which evaluate so many candidates at a time, if given."""
        search, arrays = self.search, jax.tree.map(lambda leaf: leaf[rows], self.arrays)
        if batch_size is not None:
            search = replace(search, batch_size=batch_size)
        return Searches(search, arrays)

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
    pool: TaskPool,
    keys: Key,
    *,
    folder: Path | None = None,
    chunk: int = CHUNK,
    save_every: float = SAVE_EVERY,
    mesh: Mesh | None = None,
    at_once: int | None = None,
    report: Report | None = None,
) -> SearchRun:
    """Searches for ``B`` tasks.

    Args:
      searches: of the tasks.
      env: world of all tasks.
      pool: the tasks (`make_pool`).
      keys: ``[B]``.
      folder: for checkpoints; a search found there is continued. None: keep nothing.
      chunk: updates of one compiled call.
      save_every: seconds between checkpoints, which follow a chunk; the last chunk is always saved.
      mesh: see `edit_many`.
      at_once: tasks side by side on a device; None: `tasks_at_once`.
      report: called after every chunk; see `run_chunks`. The record holds ``plans``
        ``[steps, B, T, A]`` and the metrics of the search, ``[steps, B]``.

    Raises:
      ValueError: a budget below one update, a reward function that returned NaN, or a checkpoint
        of another configuration.
    """
    search, env, total = searches.search, env.static, searches.search.updates
    form = static_form(search)[0]
    layout = task_layout(np.asarray(pool.subject), at_once or _at_once(search, env, pool), mesh)
    group, spread, data = layout.group, layout.spread, _arranged(layout, searches, pool)
    state = _init(form, env, group, spread, *data, layout.place(keys))
    shapes = jax.eval_shape(partial(_one_update, form, env, group), *data, state)[1]
    record = _room(total, len(pool), shapes)

    def advance(state: PyTree, done: int, steps: int) -> tuple[PyTree, dict[str, Any]]:
        length = jnp.int32(steps)
        state, trace = _advance(form, env, chunk, group, spread, length, *data, state)
        trace = layout.gather(trace)
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
        placement=layout,
        report=report,
    )
    return _result(run, search, len(pool))


def _at_once(search: SearchEditor, env: World, pool: TaskPool) -> int:
    one = jax.eval_shape(TaskPool.task, pool, jnp.int32(0))
    return tasks_at_once(env, one, search.evaluations_per_update // search.horizon)


def _arranged(layout: TaskLayout, searches: Searches, pool: TaskPool) -> tuple[PyTree, ...]:
    """What the compiled functions are given, where they look for it."""
    network = layout.put(jnp.asarray(layout.network), np.arange(len(layout.network)))
    subjects = layout.put(pool.subjects, layout.networks)
    return network, subjects, layout.place(searches.arrays), layout.place(pool.requests)


def _result(run: CompletedRun, search: SearchEditor, tasks: int) -> SearchRun:
    by_task = {name: np.swapaxes(values, 0, 1) for name, values in run.record.items()}
    cost = replace(search.cost, seconds=run.seconds / tasks)
    return SearchRun(SearchTrace(by_task.pop("plans"), by_task), cost)


def _room(total: int, tasks: int, shapes: SearchTrace) -> dict[str, np.ndarray]:
    """Zeros ``[total, tasks, ...]`` for the traces of all updates."""
    found = {"plans": shapes.plans, **shapes.metrics}
    return {name: np.zeros((total, tasks, *x.shape[1:]), x.dtype) for name, x in found.items()}


def _own(group: Group, index: Array | int, tree: PyTree) -> PyTree:
    """The rows of one group, of arrays that have one for each task."""
    size = group.tasks

    def own(leaf: Array) -> Array:
        if leaf.shape[0] == size:
            return leaf
        return jax.lax.dynamic_slice_in_dim(leaf, index * size, size)

    return jax.tree.map(own, tree)


def _own_networks(
    group: Group, index: Array | int, network: Array, subjects: WorldParams
) -> WorldParams:
    """What belongs to the networks of one group, ``[networks, ...]``."""
    if group.all_networks:  # of this device; outside of `Spread.each` there are those of others
        return jax.tree.map(lambda leaf: leaf[: group.networks], subjects)
    return jax.tree.map(lambda leaf: leaf[network[index]], subjects)


def _each(group: Group, function: Any, networks: WorldParams, *rows: PyTree) -> Any:
    """``function(network, *row)`` for every task of a group; networks are not repeated."""
    own = (0,) * len(rows)
    if group.requests == 1:
        return jax.vmap(function)(networks, *rows)
    requests = jax.vmap(function, (None, *own))
    if group.networks == 1:
        return requests(jax.tree.map(lambda leaf: leaf[0], networks), *rows)

    def apart(leaf: Array) -> Array:
        return leaf.reshape(group.networks, group.requests, *leaf.shape[1:])

    found = jax.vmap(requests)(networks, *jax.tree.map(apart, rows))
    return jax.tree.map(lambda leaf: leaf.reshape(group.tasks, *leaf.shape[2:]), found)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _init(
    form: StaticForm,
    env: World,
    group: Group,
    spread: Spread | None,
    network: Array,
    subjects: WorldParams,
    arrays: list[Array | None],
    requests: WorldParams,
    keys: Key,
) -> PyTree:
    """The first states of all tasks."""

    def one(network: WorldParams, arrays: list, request: WorldParams, key: Key) -> PyTree:
        state = from_static_form(form, arrays).init(env, request.joined(network), key)
        # Of definite types, as after an update: else the second chunk would be compiled anew.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)

    def many(network: Array, subjects: WorldParams, *rows: PyTree) -> PyTree:
        def of_group(index: Array) -> PyTree:
            networks = _own_networks(group, index, network, subjects)
            return _each(group, one, networks, *_own(group, index, rows))

        if group.count == 1:
            return of_group(jnp.int32(0))
        found = jax.lax.map(of_group, jnp.arange(group.count))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)

    run = many if spread is None else spread.each(many)
    return run(network, subjects, arrays, requests, keys)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _update(
    form: StaticForm,
    env: World,
    group: Group,
    networks: WorldParams,
    arrays: list[Array | None],
    requests: WorldParams,
    state: PyTree,
) -> tuple[PyTree, SearchTrace]:
    """One update of a group; jitted, so that its trace, which takes long, is made once for all
    who ask for shapes or call it, and never compiled alone."""

    def one(
        network: WorldParams, arrays: list[Array | None], request: WorldParams, state: PyTree
    ) -> tuple[PyTree, SearchTrace]:
        return run_update(from_static_form(form, arrays), env, request.joined(network), state)

    return _each(group, one, networks, arrays, requests, state)


def _one_update(
    form: StaticForm,
    env: World,
    group: Group,
    network: Array,
    subjects: WorldParams,
    *rows: PyTree,
) -> tuple[PyTree, SearchTrace]:
    """Of the first group."""
    networks = _own_networks(group, 0, network, subjects)
    return _update(form, env, group, networks, *_own(group, 0, rows))


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnums=10)
def _advance(
    form: StaticForm,
    env: World,
    chunk: int,
    group: Group,
    spread: Spread | None,
    length: Array,
    network: Array,
    subjects: WorldParams,
    arrays: list[Array | None],
    requests: WorldParams,
    state: PyTree,
) -> tuple[PyTree, SearchTrace]:
    """Makes ``length`` updates for all tasks: their states, and traces ``[n, chunk, ...]``.

    ``length`` is a number at run time, at most ``chunk``, so that a shorter last chunk is not
    compiled anew. The traces have room for ``chunk`` updates.
    """

    def many(
        length: Array, network: Array, subjects: WorldParams, *rows: PyTree
    ) -> tuple[PyTree, SearchTrace]:
        given, state = rows[:-1], rows[-1]
        shapes = jax.eval_shape(partial(_one_update, form, env, group), network, subjects, *rows)[1]

        def of_group(index: Array | int, state: PyTree) -> tuple[PyTree, SearchTrace]:
            networks = _own_networks(group, index, network, subjects)
            own = _own(group, index, given)

            def step(update: Array, carry: Any) -> Any:
                state, trace = carry
                state, last = _update(form, env, group, networks, *own, state)
                return state, jax.tree.map(lambda x, new: x.at[:, update].set(new), trace, last)

            begin = _own(group, index, state), _zeros(shapes, group.tasks, chunk)
            return jax.lax.fori_loop(0, length, step, begin)

        if group.count == 1:
            return of_group(0, state)

        def next_group(index: Array, carry: Any) -> Any:
            found = of_group(index, carry[0])
            # In place: of what the groups before have left, nothing is read again.
            return jax.tree.map(
                lambda every, own: jax.lax.dynamic_update_slice_in_dim(
                    every, own, index * group.tasks, 0
                ),
                carry,
                found,
            )

        room = _zeros(shapes, group.tasks * group.count, chunk)
        return jax.lax.fori_loop(0, group.count, next_group, (state, room))

    run = many if spread is None else spread.each(many, shared=1)
    return run(length, network, subjects, arrays, requests, state)


def _zeros(shapes: SearchTrace, tasks: int, chunk: int) -> SearchTrace:
    """Room ``[tasks, chunk, ...]`` for the traces of an update."""
    return jax.tree.map(lambda s: jnp.zeros((tasks, chunk, *s.shape[1:]), s.dtype), shapes)
