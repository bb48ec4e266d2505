"""Outputs of a network on the examples of a task's roles."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.subjects.subject import predict
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Params

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
