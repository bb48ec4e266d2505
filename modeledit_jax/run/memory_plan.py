"""How a search over many tasks fits into a budget of memory.

From shapes alone, before anything is computed: how many parts the tasks are taken in, how many of
a part lie side by side, and how many candidates of each are evaluated at a time. A smaller budget
takes more of them one after another, and changes no result but by rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.editors.search.batching import candidates_at_once, tasks_at_once
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.envs.params import OF_NETWORK, WorldParams
from modeledit_jax.envs.task_pool import networks_of, params_shapes
from modeledit_jax.envs.world import World
from modeledit_jax.memory import live_bytes, memory_text, room_text, tree_bytes
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, PyTree

COPIES = 3
"""Of a task's state: as it is, as an update makes it, and its gradient or noise."""


@dataclass(frozen=True)
class MemoryPlan:
    """Sizes of a search; `str` of it is the line that is printed.

    Attributes:
      budget: bytes.
      needed: bytes that are planned.
      parts: numbers of the tasks of every part, which follow one another.
      tasks: of a part, side by side.
      candidates: of a task, evaluated at a time.
      fewer_candidates: whether these are fewer than would be fastest.
    """

    budget: int
    needed: int
    parts: tuple[tuple[int, ...], ...]
    tasks: int
    candidates: int
    fewer_candidates: bool

    def __str__(self) -> str:
        total, parts = sum(map(len, self.parts)), len(self.parts)
        largest = max(map(len, self.parts))
        return (
            f"memory: at most {memory_text(self.needed)} of {memory_text(self.budget)}: {total} "
            f"tasks in {parts} part{'s'[: parts > 1]}, {min(self.tasks, largest)} side by side, "
            f"{self.candidates} candidates of each at a time"
        )


@dataclass(frozen=True)
class Sizes:
    """Bytes that one of each takes.

    Attributes:
      network: stored.
      task: stored, with the state of its search.
      update: of one task while it is updated, besides the candidates.
      candidate: while it is evaluated, at most.
    """

    network: int
    task: int
    update: int
    candidate: int


def plan_memory(
    search: SearchEditor,
    env: World,
    tasks: Sequence[Task],
    budget: int,
    devices: int = 1,
    parts: int | None = None,
) -> MemoryPlan:
    """Chooses sizes that fit.

    Args:
      search: of every task.
      env: world of all tasks.
      tasks: ``B``, whose shapes are alike.
      budget: bytes, of each device.
      devices: that the tasks of a part are spread over.
      parts: to take the tasks in, where that is given; None: as few as fit.

    Raises:
      ValueError: not even one candidate of one task fits; the message says what it takes.
    """
    params = params_shapes(env, tasks[0])
    sizes = sizes_of(search, env, params)
    networks = np.asarray(networks_of(tasks)[1])
    total = search.evaluations_per_update // search.horizon
    fast = min(candidates_at_once(env, params, total), total)
    least = 2 * sizes.network + sizes.task + sizes.update + sizes.candidate
    if least > budget:
        raise ValueError(
            f"the memory budget of {memory_text(budget)} is too small for one candidate of one "
            f"task, which takes {room_text(least)}: give at least that"
        )
    order = np.argsort(networks, kind="stable")
    one = sizes.network + sizes.update
    # Half as many candidates as one task could have alone are worth having fewer parts.
    alone = (budget - sizes.network - sizes.task - one) // max(2 * sizes.candidate, 1)
    wanted = max(min(fast, alone), 1)
    for count in range(1, len(tasks) + 1) if parts is None else [parts]:
        split = np.array_split(order, count)
        stored = max(_stored(sizes, networks[part], devices) for part in split)
        if stored + one + wanted * sizes.candidate <= budget:
            break
    free = budget - stored
    candidates = min(max((free - one) // max(sizes.candidate, 1), 1), fast)
    if candidates < fast:
        candidates = math.ceil(total / math.ceil(total / candidates))
    each = one + candidates * sizes.candidate
    side = max(min(free // each, tasks_at_once(env, params, total)), 1)
    side = min(side, max(map(len, split)))
    chosen = tuple(tuple(map(int, part)) for part in split)
    needed = stored + side * each
    return MemoryPlan(budget, needed, chosen, int(side), int(candidates), candidates < fast)


def _stored(sizes: Sizes, networks: np.ndarray, devices: int) -> int:
    """Bytes on each device of the tasks of a part."""
    each = -(-len(networks) // devices)
    return min(len(np.unique(networks)), each) * sizes.network + each * sizes.task


def sizes_of(search: SearchEditor, env: World, params: WorldParams) -> Sizes:
    """What a search takes; `jax.ShapeDtypeStruct` are enough."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = tree_bytes(jax.eval_shape(partial(search.init, env), params, key))
    action = jax.ShapeDtypeStruct((env.num_actions,), jnp.float32)
    request = tree_bytes(params.replace(**dict.fromkeys(OF_NETWORK)))

    def evaluate(params: WorldParams, action: Array) -> PyTree:
        _, world = env.reset_env(jax.random.key(0), params)
        return env.step_env(jax.random.key(0), world, action, params)

    candidates = COPIES * search.evaluations_per_update * tree_bytes(action)
    return Sizes(
        network=tree_bytes(params) - request,
        task=request + state,
        update=COPIES * state + candidates,
        candidate=live_bytes(evaluate, params, action),
    )
