"""Worlds that the tests of this folder share: `env.step` compiles once for every instance."""

from functools import lru_cache

import pytest

from modeledit_jax.edits.parametrization import LowRank
from modeledit_jax.envs.worlds import MaskWorld, ShiftWorld
from modeledit_jax.tasks.unlearning import unlearning_reward
from tests import tiny


@lru_cache
def _world(name, horizon):
    task = tiny.task(0, reward=unlearning_reward("soft", edit_size=0.1))
    kind = {"mask": MaskWorld, "shift": ShiftWorld}[name]
    return kind(task, parametrization=LowRank(2), horizon=horizon)


@pytest.fixture(scope="session", params=["mask", "shift"])
def world(request):
    """Horizon 3, soft reward with an edit-size part, ``LowRank(2)`` on ``fc2/kernel``."""
    return _world(request.param, 3)


@pytest.fixture(scope="session")
def shiftworld():
    """The same for shifts alone."""
    return _world("shift", 3)
