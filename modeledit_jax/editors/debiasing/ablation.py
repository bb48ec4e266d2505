"""Edits without learning: greedy removal of neurons, and a random edit of equal norm."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from modeledit_jax.editors.editor import Cost, EditResult, check_rewards
from modeledit_jax.editors.search.batching import candidates_at_once
from modeledit_jax.edits.operator import mask
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves


@dataclass(frozen=True)
class NeuronAblation:
    """Sets the row or column of the site's matrices to zero that raises the score most; repeats.

    A row is what the layer reads of one unit before it, a column (with the bias as it was) what
    feeds one of its own. Stops when no removal raises the score.

    Attributes:
      max_neurons: at most so many rows and columns.
    """

    max_neurons: int = 8

    def edit(self, task: Task, key: Key, budget: int) -> EditResult:
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
        rounds = min(self.max_neurons, budget // len(candidates))
        if rounds < min(self.max_neurons, 1):
            raise ValueError(
                f"a budget of {budget} reward evaluations does not pay for one round of neuron "
                f"ablation, which takes {len(candidates)}: raise the budget"
            )
        env = World(task, mask)
        leaves, trace = _greedy(env, env.default_params, candidates, rounds)
        cost = Cost(
            reward_evaluations=len(trace["score"]) * len(candidates),
            seconds=time.perf_counter() - begin,
        )
        return EditResult(set_leaves(task.subject.params, leaves), cost, trace)


@dataclass(frozen=True)
class RandomEdit:
    """Adds noise of a given size: the control for the mere size of an edit.

    Attributes:
      size: Frobenius norm of the change of all leaves of the site relative to theirs.
      rank: of the change of a matrix; None: independent normal entries, as for other leaves.
    """

    size: float
    rank: int | None = None

    def edit(self, task: Task, key: Key, budget: int = 0) -> EditResult:
        """Returns the edited network; ``budget`` is not used."""
        del budget
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
        return EditResult(params, Cost(seconds=time.perf_counter() - begin))

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


def _greedy(
    env: World, params: WorldParams, candidates: list[tuple[str, int, int]], rounds: int
) -> tuple[Leaves, dict[str, Any]]:
    paths = [path for path, _ in env.edit.shapes]
    places = np.array([(paths.index(path), axis, index) for path, axis, index in candidates])
    batch_size = candidates_at_once(env, params, len(candidates))

    def without(leaves: Leaves, place: Array) -> Leaves:
        kept = {}
        for number, (path, leaf) in enumerate(leaves.items()):
            kept[path] = leaf
            for axis in range(leaf.ndim if leaf.ndim == 2 else 0):
                gone = jnp.arange(leaf.shape[axis]) == place[2]
                gone &= (place[0] == number) & (place[1] == axis)
                zero = jnp.expand_dims(gone, 1 - axis)
                kept[path] = jnp.where(zero, 0, kept[path]).astype(leaf.dtype)
        return kept

    @jax.jit
    def best(leaves: Leaves, params: WorldParams) -> tuple[Leaves, Array, Array, Array]:
        def evaluate(place: Array) -> tuple[Array, Array]:
            score, _, invalid = env.evaluate(without(leaves, place), params)
            return score, invalid.astype(jnp.float32)

        scores, invalid = jax.lax.map(evaluate, jnp.asarray(places), batch_size=batch_size)
        chosen = jnp.argmax(scores)
        return without(leaves, jnp.asarray(places)[chosen]), scores[chosen], chosen, invalid.max()

    leaves, score = params.original, float(params.score)
    trace: dict[str, Any] = {"score": [], "removed": []}
    for _ in range(rounds):
        found, new, chosen, invalid = best(leaves, params)
        check_rewards({"invalid_reward": invalid})
        trace["score"].append(float(new))
        if not float(new) > score:
            break
        leaves, score = found, float(new)
        trace["removed"].append(candidates[int(chosen)])
    return leaves, trace
