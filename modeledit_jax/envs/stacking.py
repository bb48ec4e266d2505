"""Params of several tasks along a leading axis, for `jax.vmap`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.types import PyTree


class UnlikeTasksError(ValueError):
    """Tasks that do not fit side by side."""


def stack_params(params: Sequence[WorldParams]) -> WorldParams:
    """Stacks the params of several tasks along a new leading axis, for `jax.vmap`.

    Raises:
      UnlikeTasksError: the tasks do not fit side by side: they have other reward functions (the
        numbers of a reward may differ), names of evaluation sets, or shapes of examples or leaves.
    """
    for index, other in enumerate(params):
        check_alike(params[0], other, index)
    # On the host: a program that stacks a thousand arrays takes seconds to compile.
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *jax.device_get(params))


def check_alike(first: WorldParams, other: WorldParams, index: int) -> None:
    """Raises UnlikeTasksError if the params of task ``index`` cannot be stacked with the first."""
    if reason := difference(first, other):
        raise UnlikeTasksError(
            f"task {index} does not fit beside task 0, {reason}: tasks side by side need one "
            "reward function, equal example shapes and equal leaves; edit the others apart"
        )


def difference(first: WorldParams, other: WorldParams) -> str | None:
    """What keeps two tasks' params from being stacked, in words."""
    structure: Callable[[PyTree], Any] = jax.tree.structure  # its own type has no == for mypy
    if structure(first.reward) != structure(other.reward):
        return "its reward has another function or other parts"
    if structure(first) != structure(other):
        return "its evaluation sets or leaves have other names"
    leaves = zip(leaf_paths(first), jax.tree.leaves(first), jax.tree.leaves(other), strict=True)
    for path, one, two in leaves:
        if jnp.shape(one) != jnp.shape(two):
            return f"its {path} has shape {jnp.shape(two)} in place of {jnp.shape(one)}"
    return None


def shapes_differ(first: PyTree, other: PyTree) -> bool:
    """Whether two pytrees have other structures, shapes or dtypes."""

    def about(tree: PyTree) -> list[Any]:
        leaves, structure = jax.tree.flatten(tree)
        return [structure, *((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)]

    return about(first) != about(other)
