"""Editing trained neural networks as reinforcement learning, vectorized in JAX.

The short way in::

    from modeledit_jax import forget_classes, make
    env, env_params = make("ShiftWorld-v0", forget_classes(subject, splits, 7))

Everything else is imported from the module that is about it: ``subjects``, ``data``, ``edits``,
``tasks``, ``envs``, ``agents``, ``editors``, ``evaluation``, ``run``.
"""

from modeledit_jax.envs.worlds import make, register_worlds
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.tasks.debiasing import mitigate_bias
from modeledit_jax.tasks.reward import as_reward
from modeledit_jax.tasks.unlearning import (
    forget_classes,
    forget_in_turn,
    forget_samples,
    unlearning_reward,
)

register_worlds()

__all__ = [
    "Subject",
    "as_reward",
    "flax_apply",
    "forget_classes",
    "forget_in_turn",
    "forget_samples",
    "make",
    "mitigate_bias",
    "unlearning_reward",
]
