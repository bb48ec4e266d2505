"""Edits without learning: greedy removal of neurons, and a random edit of equal norm."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.editors.search.batching import candidates_at_once
from modeledit_jax.editors.search.search import check_rewards
from modeledit_jax.edits.operator import mask
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves


@dataclass(frozen=True)
class NeuronAblation:
    """Sets the row or column of the site's matrices to zero that raises the score most; repeats.

    A row is what the layer reads of one unit before it, a column (with the bias as it was) what
    feeds one of its own. Stops when no removal raises the score.

    Attributes:
      max_neurons: at most so many rows and columns.
      budget: at most so many reward evaluations.
    """

    max_neurons: int = 8
    budget: int = 2000

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the ablated network; every round evaluates every row and column once.

        ``trace`` holds ``score`` (of the best candidate of every round) and ``removed``
        (``(path, axis, index)``); ``key`` is not used.

        Raises:
          ValueError: the site has no matrix, the budget does not pay for one round, or a reward
            that is not finite.
        """
        del key
        begin = time.perf_counter()
        candidates = _candidates(task.leaves)
        rounds = min(self.max_neurons, self.budget // len(candidates))
        if rounds < min(self.max_neurons, 1):
            raise ValueError(
                f"a budget of {self.budget} reward evaluations does not pay for one round of "
                f"neuron ablation, which takes {len(candidates)}: raise the budget"
            )
        env, places = World(task, mask), _places(task.leaves, candidates)
        leaves, trace = _greedy(env, places, rounds)
        trace["removed"] = [candidates[index] for index in trace["removed"]]
        cost = Cost(
            reward_evaluations=len(trace["score"]) * len(candidates),
            seconds=time.perf_counter() - begin,
        )
        return checked(task, EditResult(set_leaves(task.subject.params, leaves), cost, trace))


@dataclass(frozen=True)
class RandomEdit:
    """Adds noise of a given size: the control for the mere size of an edit.

    Attributes:
      size: Frobenius norm of the change of all leaves of the site relative to theirs.
      rank: of the change of a matrix; None: independent normal entries, as for other leaves.
    """

    size: float = 0.5
    rank: int | None = None

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network."""
        begin = time.perf_counter()
        leaves = {path: jnp.asarray(leaf) for path, leaf in task.leaves.items()}
        keys = jax.random.split(key, len(leaves))
        change = {
            path: self._direction(k, leaf.shape)
            for k, (path, leaf) in zip(keys, leaves.items(), strict=True)
        }
        scale = self.size * _norm(leaves) / _norm(change)
        edited = {
            path: (leaf.astype(jnp.float32) + scale * change[path]).astype(leaf.dtype)
            for path, leaf in leaves.items()
        }
        params = set_leaves(task.subject.params, edited)
        return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin)))

    def _direction(self, key: Key, shape: tuple[int, ...]) -> Array:
        if self.rank is None or len(shape) != 2:
            return jax.random.normal(key, shape)
        left, right = jax.random.split(key)
        A = jax.random.normal(left, (shape[0], self.rank))
        return A @ jax.random.normal(right, (self.rank, shape[1]))


def _norm(leaves: Leaves) -> Float[Array, ""]:
    """Frobenius norm of all leaves together."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves.values()))


def _candidates(leaves: Leaves) -> list[tuple[str, int, int]]:
    """``(path, axis, index)`` of every row and column of the matrices."""
    found = [
        (path, axis, index)
        for path, leaf in leaves.items()
        if leaf.ndim == 2
        for axis in (0, 1)
        for index in range(leaf.shape[axis])
    ]
    if not found:
        raise ValueError(
            f"the site {tuple(leaves)} has no matrix whose rows and columns could be removed: "
            "choose a site such as 'fc2/kernel'"
        )
    return found


def _places(leaves: Leaves, candidates: list[tuple[str, int, int]]) -> np.ndarray:
    """The candidates as numbers ``[M, 3]``: the leaf's place among the leaves, axis, index."""
    paths = list(leaves)
    return np.array([(paths.index(path), axis, index) for path, axis, index in candidates])


def _greedy(env: World, places: np.ndarray, rounds: int) -> tuple[Leaves, dict[str, Any]]:
    """Removes the best candidate of every round while that raises the score."""
    params = env.default_params
    leaves, score = params.original, float(params.score)
    trace: dict[str, Any] = {"score": [], "removed": []}
    for _ in range(rounds):
        found, new, chosen, invalid = _best(env.static, leaves, params, jnp.asarray(places))
        check_rewards({"invalid_reward": invalid})
        trace["score"].append(float(new))
        if not float(new) > score:
            break
        leaves, score = found, float(new)
        trace["removed"].append(int(chosen))
    return leaves, trace


@partial(jax.jit, static_argnums=0)
def _best(
    env: World, leaves: Leaves, params: WorldParams, places: Array
) -> tuple[Leaves, Array, Array, Array]:
    """The best of all removals: leaves, score, its number; and whether a reward was invalid."""

    def evaluate(place: Array) -> tuple[Array, Array]:
        score, _, invalid = env.evaluate(_without(env, leaves, place), params)
        return score, invalid.astype(jnp.float32)

    batch_size = candidates_at_once(env, params, len(places))
    scores, invalid = jax.lax.map(evaluate, places, batch_size=batch_size)
    chosen = jnp.argmax(scores)
    return _without(env, leaves, places[chosen]), scores[chosen], chosen, invalid.max()


def _without(env: World, leaves: Leaves, place: Array) -> Leaves:
    """The leaves with one row or column set to zero."""
    kept = {}
    for number, (path, shape) in enumerate(env.edit.shapes):
        kept[path] = leaves[path]
        for axis in range(len(shape) if len(shape) == 2 else 0):
            gone = jnp.arange(shape[axis]) == place[2]
            gone &= (place[0] == number) & (place[1] == axis)
            zero = jnp.expand_dims(gone, 1 - axis)
            kept[path] = jnp.where(zero, 0, kept[path]).astype(leaves[path].dtype)
    return kept
