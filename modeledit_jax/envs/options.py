"""What can be chosen of a world, and what is refused."""

from typing import Any, Literal, get_args

import jax
import numpy as np

from modeledit_jax.edits.precision import Precision

Observation = Literal["weights", "time", "neurons"]

Coordinates = Literal["weights", "inputs"]
"""What the rows of an edit's matrix are about: the inputs of a layer one by one (rows of its
weights), or directions of equal size in them (`envs.input_bases`)."""


def check_options(
    horizon: int, observation: str, precision: str, coordinates: str, adds: bool
) -> None:
    """Raises ValueError for what a world cannot be built with.

    Args:
      horizon: edits of an episode, 1 at least.
      observation, precision, coordinates: names of their kinds.
      adds: whether edits are added to the weights, as coordinates of inputs need.
    """
    if horizon < 1:
        raise ValueError(f"an episode needs at least one edit, got horizon={horizon}")
    choices = {
        "observation": (observation, Observation),
        "precision": (precision, Precision),
        "coordinates": (coordinates, Coordinates),
    }
    for name, (value, known) in choices.items():
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")
    if coordinates == "inputs" and not adds:
        raise ValueError(
            "coordinates='inputs' is about edits that are added to the weights: take the world "
            "'shift', or coordinates='weights'"
        )


def check_length(edits: Any, horizon: int) -> None:
    """Raises ValueError where params ask for longer episodes than the world has room for.

    Args:
      edits: ``max_steps_in_episode`` of the params; inside of a trace nothing is known of it.
      horizon: of the world.
    """
    if isinstance(edits, jax.core.Tracer):
        return
    longest = np.asarray(edits).max()
    if longest > horizon:
        raise ValueError(
            f"max_steps_in_episode={longest}: the world was built for episodes of {horizon} at "
            f"most; build it with horizon={longest}"
        )
