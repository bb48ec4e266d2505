"""Makes worlds by name, here and through ``gymnax.make``."""

from typing import Any

import gymnax

from modeledit_jax.envs.maskworld import MaskWorld
from modeledit_jax.envs.shiftworld import ShiftWorld
from modeledit_jax.envs.world import World, WorldParams
from modeledit_jax.tasks.task import Task

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
