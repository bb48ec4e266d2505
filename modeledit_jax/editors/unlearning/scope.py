"""Which leaves an editor may change, and what such leaves are before any training."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.edits.split_apply import split_apply
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Leaves

Scope: TypeAlias = Literal["site", "network"] | int
"""Leaves that may change: those of the task's site, all weights, or those of so many last layers.

Weights are the float leaves but for those under ``batch_stats``, which normalization has measured.
A layer is what shares a path but for the last part (``fc2/kernel`` and ``fc2/bias``), the last one
is what the network uses last.
"""


def scope_paths(task: Task, scope: Scope) -> tuple[str, ...]:
    """Exact paths of the leaves in a scope, in the order of the parameters.

    Raises:
      ValueError: an unknown scope, or more layers than there are.
    """
    if scope == "site":
        return task.site
    params = task.subject.params
    leaves = zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    weights = tuple(path for path, leaf in leaves if _is_weight(path, leaf))
    if scope == "network":
        return weights
    if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
        raise ValueError(f"scope must be 'site', 'network' or a number of layers, got {scope!r}")
    example = jnp.asarray(task.roles["train"].x[:1])
    split = split_apply(task.subject.apply, params, example, weights)
    layers = list(dict.fromkeys(_layer(path) for path in split.paths_in_order_of_use))
    if scope > len(layers):
        raise ValueError(
            f"scope={scope}: the network has {len(layers)} layers ({', '.join(layers)})"
        )
    return tuple(path for path in weights if _layer(path) in layers[-scope:])


def fresh_leaves(leaves: Leaves, key: Key) -> Leaves:
    """The leaves as Flax starts layers: kernels LeCun-normal, scales one, other vectors zero.

    Args:
      leaves: ``{path: array}``; those of two axes and more are kernels, whose last axis is the
        outputs.
      key: of the draws.
    """
    kernel = jax.nn.initializers.lecun_normal()
    fresh = {}
    for own, (path, leaf) in zip(jax.random.split(key, len(leaves)), leaves.items(), strict=True):
        if leaf.ndim > 1:
            fresh[path] = kernel(own, leaf.shape, leaf.dtype)
        else:
            fresh[path] = jnp.full_like(leaf, "scale" in path.split("/")[-2:])
    return fresh


def _is_weight(path: str, leaf: object) -> bool:
    is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return bool(is_float) and "batch_stats" not in path.split("/")


def _layer(path: str) -> str:
    """A leaf's layer; paths of Flax NNX have one part more."""
    return path.removesuffix("/value").rpartition("/")[0]
