"""MaskWorld and ShiftWorld: `World` with its operator fixed, by name and through gymnax."""

from typing import Any

import gymnax

from modeledit_jax.edits.operator import mask, shift
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.tasks.task import Task


class MaskWorld(World):
    """`World` whose edits are ``W · (1 + tanh M)`` (Malik 2026, MaskWorld).

    Keyword arguments as in `World`.
    """

    def __init__(self, task: Task, **options: Any):
        super().__init__(task, mask, **options)


class ShiftWorld(World):
    """`World` whose edits are ``W + std(W₀) · M`` (Malik 2026, ShiftWorld).

    Keyword arguments as in `World`.
    """

    def __init__(self, task: Task, **options: Any):
        super().__init__(task, shift, **options)


WORLDS: dict[str, type[MaskWorld] | type[ShiftWorld]] = {
    "MaskWorld-v0": MaskWorld,
    "ShiftWorld-v0": ShiftWorld,
}


def register_worlds() -> None:
    """Registers the worlds with gymnax, once: ``gymnax.make("MaskWorld-v0", task=task)``."""
    for name, world in WORLDS.items():
        if name not in gymnax.registered_envs:
            gymnax.register(name, world)


def make(name: str, task: Task, **options: Any) -> tuple[World, WorldParams]:
    """Returns the environment and its default params.

    Args:
      name: ``"MaskWorld-v0"`` or ``"ShiftWorld-v0"``.
      task: what to edit and how it is judged.
      **options: ``parametrization``, ``horizon``, ``observation`` (see `World`).

    Raises:
      ValueError: unknown name.
    """
    if name not in WORLDS:
        raise ValueError(f"unknown world {name!r}; choose one of {', '.join(WORLDS)}")
    env = WORLDS[name](task, **options)
    return env, env.default_params
