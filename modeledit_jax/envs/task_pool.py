"""Many tasks side by side: networks and requests, stacked apart, or drawn in compiled code.

Tasks of one pool share shapes, not numbers. What belongs to a network (cached features of its
examples) is kept once, however many requests are made of it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.envs.judgement import check_unedited
from modeledit_jax.envs.params import OF_NETWORK, WorldParams
from modeledit_jax.envs.stacking import check_alike, stack_params
from modeledit_jax.envs.world import World
from modeledit_jax.memory import shape_of
from modeledit_jax.mesh import mapped
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Field, Key, Params, PyTree


@struct.dataclass
class TaskPool:
    """``B`` tasks of ``S`` networks."""

    subjects: WorldParams  # leaves [S, ...]: what the tasks of a network share
    requests: WorldParams  # leaves [B, ...]: all else
    subject: Field  # [B] int32

    def __len__(self) -> int:
        return int(self.subject.shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))

    def task(self, index: Field) -> WorldParams:
        """The params of one task; ``index`` may be traced."""
        shared = jax.tree.map(lambda leaf: leaf[self.subject[index]], self.subjects)
        request = jax.tree.map(lambda leaf: leaf[index], self.requests)
        return request.joined(shared)

    def draw(
        self,
        env: World,
        key: Key,
        count: int,
        examples: int | None = None,
        at_once: int | None = None,
    ) -> WorldParams:
        """Draws tasks without replacement, and examples to reward them on.

        Args:
          env: the world of the pool.
          key: consumed.
          count: number of tasks, at most that of the pool.
          examples: rows drawn from the reward role anew, the same for all tasks, on which edits
            are scored; None: all. What a policy observes at the start rests on all in either case.
          at_once: tasks that are scored side by side; None: all.

        Returns:
          Params with a leading axis ``[count]``.

        Raises:
          ValueError: examples are to be drawn, but targets are more than a label each.
        """
        task_key, row_key = jax.random.split(key)
        indices = jax.random.choice(task_key, len(self), (count,), replace=False)
        if examples is None:
            return mapped(self.task, indices, at_once)
        if not isinstance(self.subjects.targets, jax.Array):
            raise ValueError(
                "examples whose targets belong together (counterfactual blocks) cannot be drawn "
                "one by one: leave examples at None"
            )
        size = jax.tree.leaves(self.subjects.original_outputs)[0].shape[1]
        rows = jax.random.permutation(row_key, size)[:examples]
        return mapped(lambda index: _rescored(env, _rows(self.task(index), rows)), indices, at_once)


def _rows(params: WorldParams, rows: Field) -> WorldParams:
    """The params with some of the examples; the last axis of a set's weights are examples."""
    of_rows = partial(jnp.take, indices=rows, axis=params.features.axis)
    return params.replace(
        features=params.features.take(rows),
        targets=jax.tree.map(lambda leaf: leaf[rows], params.targets),
        weights={name: weight[..., rows] for name, weight in params.weights.items()},
        original_outputs=params.original_outputs[rows],
        products=jax.tree.map(of_rows, params.products),
    )


def _rescored(env: World, params: WorldParams) -> WorldParams:
    score, parts, _ = env.evaluate(params.original, params)
    return params.replace(score=score, parts=parts)


def make_pool(env: World, tasks: Sequence[Task]) -> TaskPool:
    """Prepares tasks whose site and example shapes are those of a world.

    Networks are prepared one after another, each straight into its place, so that no second copy of
    all features is ever made; the requests are scored in one compiled call.

    Raises:
      ValueError: no tasks, a task that does not fit the world, or an unedited network whose outputs
        or reward are not finite.
      UnlikeTasksError: a task that does not fit beside the others.
    """
    if not tasks:
        raise ValueError("a pool needs at least one task")
    first, subject = networks_of(tasks)
    requests = stack_params([env.request_params(task) for task in tasks])
    subjects, of_task = _networks(env, tasks, first), jnp.asarray(subject, jnp.int32)
    found, invalid = _unedited(env.static, TaskPool(subjects, requests, of_task))
    check_unedited(invalid)
    return TaskPool(subjects, requests.replace(**found), of_task)


def networks_of(tasks: Sequence[Task]) -> tuple[list[int], list[int]]:
    """A task of every network, and the number of the network of every task.

    Networks count as one where tasks share their examples and site too.
    """
    places: dict[Any, int] = {}
    first: list[int] = []
    network: list[int] = []
    for index, task in enumerate(tasks):
        sets = task.roles["reward"]
        about = (task.subject, sets.x, *jax.tree.leaves(sets.targets))
        place = places.setdefault((task.site, *map(id, about)), len(places))
        if place == len(first):
            first.append(index)
        network.append(place)
    return first, network


def _networks(env: World, tasks: Sequence[Task], chosen: Sequence[int]) -> WorldParams:
    """What belongs to the networks of the chosen tasks, ``[S, ...]``."""
    one = first = env.network_params(tasks[chosen[0]])
    room = jax.tree.map(lambda leaf: jnp.zeros((len(chosen), *leaf.shape), leaf.dtype), first)
    for place, index in enumerate(chosen):
        if place:
            one = env.network_params(tasks[index])
            check_alike(first, one, index)
        room = _put(room, place, one)
    return room


@partial(jax.jit, donate_argnums=0)
def _put(room: WorldParams, place: Array | int, one: WorldParams) -> WorldParams:
    return jax.tree.map(lambda every, own: every.at[place].set(own), room, one)


@partial(jax.jit, static_argnums=0)
def _unedited(env: World, pool: TaskPool) -> tuple[dict[str, Any], Array]:
    """`World.unedited` of all tasks, one after another: it is done once."""
    return jax.lax.map(lambda index: env.unedited(pool.task(index)), jnp.arange(len(pool)))


def params_shapes(env: World, task: Task) -> WorldParams:
    """Shapes of `World.params`; nothing is computed."""
    sets = task.roles["reward"]

    def make(network: Params, x: Array, targets: PyTree, request: WorldParams) -> WorldParams:
        features = env.split.arranged(env.split.prefix(network, x))
        known = env.of_features(get_leaves(network, task.site), features, targets)
        params = request.joined(known)
        return params.replace(**env.unedited(params)[0])

    data = jax.tree.map(shape_of, (task.subject.params, sets.x, sets.targets))
    return jax.eval_shape(make, *data, env.request_params(task))


def pool_shapes(env: World, tasks: Sequence[Task]) -> TaskPool:
    """Shapes of `make_pool`; nothing is computed."""
    params = params_shapes(env, tasks[0])
    of_network = {name: getattr(params, name) for name in OF_NETWORK}
    network = WorldParams(**of_network, max_steps_in_episode=None)

    def many(tree: WorldParams, count: int) -> WorldParams:
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct((count, *s.shape), s.dtype), tree)

    return TaskPool(
        many(network, len(networks_of(tasks)[0])),
        many(params.replace(**dict.fromkeys(OF_NETWORK)), len(tasks)),
        jax.ShapeDtypeStruct((len(tasks),), jnp.int32),
    )
