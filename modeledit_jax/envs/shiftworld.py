"""ShiftWorld: an action adds to the weights of the edited layer."""

from typing import Any

from modeledit_jax.edits.operator import shift
from modeledit_jax.envs.world import World
from modeledit_jax.tasks.task import Task


class ShiftWorld(World):
    """`World` whose edits are ``W + std(W₀) · M`` (Malik 2026, ShiftWorld).

    Keyword arguments as in `World`.
    """

    def __init__(self, task: Task, **options: Any):
        super().__init__(task, shift, **options)
