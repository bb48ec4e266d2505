"""What is known of an edited network whatever the task: its outputs, and how far it was moved."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.edits.site import get_leaves, leaf_paths
from modeledit_jax.edits.split_apply import Features, cached_features, split_apply
from modeledit_jax.evaluation.forgetting import numerical_rank, relative_edit_size
from modeledit_jax.subjects.subject import predict
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Apply, Array, Leaves, Params

_predict = jax.jit(predict, static_argnums=(0, 3))


def role_outputs(task: Task, params: Params, roles: Sequence[str]) -> dict[str, np.ndarray]:
    """Outputs of a network, by full forward passes in bounded memory.

    Args:
      task: supplies the examples and the network's ``apply``.
      params: of the network, edited or not.
      roles: names of roles.

    Returns:
      ``{role: [N, C]}``.
    """
    return {
        role: np.asarray(_predict(task.subject.apply, params, jnp.asarray(task.roles[role].x)))
        for role in roles
    }


class SiteOutputs:
    """`role_outputs` of many edits of few networks.

    Where an edit has changed nothing but the site, what comes before the site is computed once for
    every network and role.
    """

    def __init__(self) -> None:
        # The examples are held beside their features, so that no others get their identity.
        self._features: dict[tuple[int, int, tuple[str, ...]], tuple[Any, Any, Features]] = {}

    def __call__(self, task: Task, params: Params, roles: Sequence[str]) -> dict[str, np.ndarray]:
        """Arguments and result as of `role_outputs`."""
        if not _site_alone(task, params):
            return role_outputs(task, params, roles)
        leaves, site = get_leaves(params, task.site), tuple(task.site)
        found = {}
        for role in roles:
            x, features = self._before_the_site(task, role)
            found[role] = np.asarray(
                _behind_the_site((task.subject.apply, site), params, x[:1], leaves, features)
            )
        return found

    def _before_the_site(self, task: Task, role: str) -> tuple[Any, Features]:
        subject, x, site = task.subject, task.roles[role].x, tuple(task.site)
        key = id(subject), id(x), site
        if key not in self._features:
            found = cached_features(subject.apply, subject.params, jnp.asarray(x), site)
            self._features[key] = subject, x, found
        _, x, features = self._features[key]
        return x, features


def _site_alone(task: Task, params: Params) -> bool:
    """Whether all leaves but those of the site are those of the unedited network."""
    paths = leaf_paths(params)
    if paths != leaf_paths(task.subject.params):
        return False
    before, after = (get_leaves(tree, paths) for tree in (task.subject.params, params))
    others = [path for path in paths if path not in task.site]
    return all(
        before[path] is after[path] or np.array_equal(before[path], after[path]) for path in others
    )


@partial(jax.jit, static_argnums=0)
def _behind_the_site(
    setup: tuple[Apply, tuple[str, ...]],
    params: Params,
    example: Array,
    leaves: Leaves,
    features: Features,
) -> Array:
    apply, paths = setup
    return split_apply(apply, params, example, paths).suffix(leaves, features)


def edit_metrics(original: Leaves, edited: Leaves) -> dict[str, float]:
    """Returns ``edit_size`` (relative Frobenius norm) and ``edit_rank`` (summed over leaves)."""
    ranks = [
        numerical_rank(
            jnp.asarray(edited[path] - leaf).reshape(-1, leaf.shape[-1]),
        )
        for path, leaf in original.items()
    ]
    return {
        "edit_size": float(relative_edit_size(original, edited)),
        "edit_rank": float(np.sum(ranks)),
    }
