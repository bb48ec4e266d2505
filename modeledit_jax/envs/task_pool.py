"""Many tasks to train one policy on: networks and requests, drawn in compiled code.

Tasks of one pool share shapes, not numbers. What belongs to a network (cached features of its
examples) is kept once, however many requests are made of it.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.envs.stacking import stack_params
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Field, Key

_OF_SUBJECT = ("original", "features", "targets", "original_outputs", "products")


@struct.dataclass
class TaskPool:
    """``B`` tasks of ``S`` networks."""

    subjects: WorldParams  # leaves [S, ...]: what the tasks of a network share
    requests: WorldParams  # leaves [B, ...]: all else
    subject: Field  # [B] int32

    def __len__(self) -> int:
        return int(self.subject.shape[0])

    def task(self, index: Field) -> WorldParams:
        """The params of one task; ``index`` may be traced."""
        shared = jax.tree.map(lambda leaf: leaf[self.subject[index]], self.subjects)
        request = jax.tree.map(lambda leaf: leaf[index], self.requests)
        return request.replace(**{name: getattr(shared, name) for name in _OF_SUBJECT})

    def draw(self, env: World, key: Key, count: int, examples: int | None = None) -> WorldParams:
        """Draws tasks without replacement, and examples to reward them on.

        Args:
          env: the world of the pool.
          key: consumed.
          count: number of tasks, at most that of the pool.
          examples: rows drawn from the reward role anew, the same for all tasks, on which edits
            are scored; None: all. What a policy observes at the start rests on all in either case.

        Returns:
          Params with a leading axis ``[count]``.

        Raises:
          ValueError: examples are to be drawn, but targets are more than a label each.
        """
        task_key, row_key = jax.random.split(key)
        indices = jax.random.choice(task_key, len(self), (count,), replace=False)
        if examples is None:
            return jax.vmap(self.task)(indices)
        if not isinstance(self.subjects.targets, jax.Array):
            raise ValueError(
                "examples whose targets belong together (counterfactual blocks) cannot be drawn "
                "one by one: leave examples at None"
            )
        size = jax.tree.leaves(self.subjects.original_outputs)[0].shape[1]
        rows = jax.random.permutation(row_key, size)[:examples]
        return jax.vmap(lambda index: _rescored(env, _rows(self.task(index), rows)))(indices)


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

    Raises:
      ValueError: no tasks, or a task that does not fit the world or beside the others.
    """
    if not tasks:
        raise ValueError("a pool needs at least one task")
    subjects: list[WorldParams] = []
    places: dict[tuple[int, ...], int] = {}
    params: list[tuple[int, WorldParams]] = []
    for task in tasks:
        sets = task.roles["reward"]
        whose = tuple(map(id, (task.subject, sets.x, *jax.tree.leaves(sets.targets))))
        index = places.get(whose)
        features = None if index is None else subjects[index].features
        prepared = env.params(task, features)
        if index is None:
            index = places[whose] = len(subjects)
            subjects.append(_only(prepared, _OF_SUBJECT))
        params.append((index, prepared.replace(**dict.fromkeys(_OF_SUBJECT))))
    return TaskPool(
        subjects=stack_params(subjects),
        requests=stack_params([prepared for _, prepared in params]),
        subject=jnp.asarray([index for index, _ in params], jnp.int32),
    )


def _only(params: WorldParams, names: Sequence[str]) -> WorldParams:
    others = [name for name in WorldParams.__dataclass_fields__ if name not in names]
    return params.replace(**dict.fromkeys(others))
