"""A world whose score is a quadratic bowl in the action, so that a reference is one line of NumPy.

Every action entry shifts one weight, and the score is minus the squared distance of all shifts
(in units of the unedited spread) to `TARGET`.
"""

from functools import lru_cache

import numpy as np

from modeledit_jax.edits.edit import spread
from modeledit_jax.edits.parametrization import PerWeight
from modeledit_jax.envs.worlds import ShiftWorld
from tests import tiny

SIZE = 20  # entries of fc2/kernel of the tiny network
TARGET = np.random.default_rng(0).normal(size=SIZE).astype(np.float32)


def _score(sets, edit):
    (path,) = edit.leaves
    original = edit.original[path]
    shift = (edit.leaves[path] - original) / spread(original)
    return -((shift.ravel() - TARGET) ** 2).sum()


@lru_cache
def world(horizon=1):
    return ShiftWorld(tiny.task(0, reward=_score), parametrization=PerWeight(), horizon=horizon)


def reward(actions):
    """Of one-step episodes with these actions ``[E, A]``, in float64."""
    return (TARGET.astype(np.float64) ** 2).sum() - ((actions - TARGET) ** 2).sum(axis=1)
