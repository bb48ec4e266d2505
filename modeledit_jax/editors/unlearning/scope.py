"""Which leaves an editor may change."""

from typing import Literal, TypeAlias

import jax.numpy as jnp

from modeledit_jax.edits.layers import layer_name, layers_in_order, weight_paths
from modeledit_jax.tasks.task import Task

Scope: TypeAlias = Literal["site", "network"] | int
"""Leaves that may change: those of the task's site, all weights, or those of so many last layers.

What weights and layers are says `edits.layers`.
"""


def scope_paths(task: Task, scope: Scope) -> tuple[str, ...]:
    """Exact paths of the leaves in a scope, in the order of the parameters.

    Raises:
      ValueError: an unknown scope, or more layers than there are.
    """
    params = task.subject.params
    if scope == "site":
        return task.site
    if scope == "network":
        return weight_paths(params)
    if isinstance(scope, bool) or not isinstance(scope, int) or scope < 1:
        raise ValueError(f"scope must be 'site', 'network' or a number of layers, got {scope!r}")
    layers = layers_in_order(task.subject.apply, params, jnp.asarray(task.roles["train"].x[:1]))
    if scope > len(layers):
        names = ", ".join(layer_name(layer[0]) for layer in layers)
        raise ValueError(f"scope={scope}: the network has {len(layers)} layers ({names})")
    chosen = {path for layer in layers[-scope:] for path in layer}
    return tuple(path for path in weight_paths(params) if path in chosen)
