"""What can be chosen of a world, and what is refused."""

from typing import Any, Literal, get_args

import jax
import numpy as np

from modeledit_jax.edits.precision import Precision

Observation = Literal["weights", "time", "neurons"]


def check_options(horizon: int, observation: str, precision: str) -> None:
    """Raises ValueError for a horizon below 1, or an unknown observation or precision."""
    if horizon < 1:
        raise ValueError(f"an episode needs at least one edit, got horizon={horizon}")
    choices = {"observation": (observation, Observation), "precision": (precision, Precision)}
    for name, (value, known) in choices.items():
        if value not in get_args(known):
            raise ValueError(f"{name} must be one of {', '.join(get_args(known))}, got {value!r}")


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
