"""What is known of an edited network whatever the task: its outputs, and how far it was moved."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.evaluation.forgetting import numerical_rank, relative_edit_size
from modeledit_jax.subjects.subject import predict
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Leaves, Params

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
