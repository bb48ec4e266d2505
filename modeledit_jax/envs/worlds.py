"""MaskWorld and ShiftWorld: `World` with its operator fixed, by name and through gymnax."""

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnax

from modeledit_jax.edits.operator import mask, shift
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.lifelong.stream_world import StreamWorld
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


WorldName: TypeAlias = str
"""A key of `WORLDS`."""

WORLDS: dict[str, Callable[..., World]] = {"mask": MaskWorld, "shift": ShiftWorld}
"""The worlds by their short names; ``world(task, **options)`` makes one. Add yours."""


def gymnax_id(name: str) -> str:
    """Returns ``"MaskWorld-v0"`` for ``"mask"``: the name under which gymnax knows a world."""
    return f"{name.capitalize()}World-v0"


def register_worlds() -> None:
    """Registers the worlds with gymnax, once: ``gymnax.make("MaskWorld-v0", task=task)``.

    The stream of facts is one: ``gymnax.make("StreamWorld-v0", model=model, stream=stream)``.
    """
    worlds = {gymnax_id(name): world for name, world in WORLDS.items()}
    for name, world in (worlds | {"StreamWorld-v0": StreamWorld}).items():
        if name not in gymnax.registered_envs:
            gymnax.register(name, world)


def make_world(name: str, task: Task, **options: Any) -> World:
    """Returns the environment; its params are made when they are asked for.

    Args:
      name: ``"mask"`` or ``"shift"``, or the name that gymnax knows, ``"ShiftWorld-v0"``.
      task: what to edit and how it is judged.
      **options: ``parametrization``, ``horizon``, ``observation``, ``precision`` (see `World`).

    Raises:
      ValueError: unknown name.
    """
    kinds = WORLDS | {gymnax_id(short): kind for short, kind in WORLDS.items()}
    if name not in kinds:
        raise ValueError(f"unknown world {name!r}; choose one of {', '.join(kinds)}")
    return kinds[name](task, **options)


def make(name: str, task: Task, **options: Any) -> tuple[World, WorldParams]:
    """Returns the environment and its default params; arguments and errors as `make_world`."""
    env = make_world(name, task, **options)
    return env, env.default_params
