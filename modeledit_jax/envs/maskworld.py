"""MaskWorld: an action scales the weights of the edited layer."""

from typing import Any

from modeledit_jax.edits.operator import mask
from modeledit_jax.envs.world import World
from modeledit_jax.tasks.task import Task


class MaskWorld(World):
    """`World` whose edits are ``W · (1 + tanh M)`` (Malik 2026, MaskWorld).

    Keyword arguments as in `World`.
    """

    def __init__(self, task: Task, **options: Any):
        super().__init__(task, mask, **options)
