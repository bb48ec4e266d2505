"""What is judged at a step, and what a score counts for where something is broken."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from modeledit_jax.types import Array, PyTree


def judged(
    outputs: Float[Array, "n ..."], score: Array, parts: dict[str, Array], minimum: Array
) -> tuple[Float[Array, ""], dict[str, Array], Bool[Array, ""]]:
    """The score and parts that stand, and whether the reward function is to blame.

    Args:
      outputs: of the edited network; not finite where it is broken: then the minimum stands.
      score: that the reward function gave; not finite for finite outputs: likewise, and it is to
        blame.
      parts: likewise; 0 where the minimum stands, so that observations are finite.
      minimum: score of a broken network.
    """
    # Counted per example: XLA's CPU compiler would turn a plain `all` into two slow passes.
    finite_outputs = jnp.all(jnp.sum(~jnp.isfinite(outputs), axis=-1) == 0)
    finite_score = jnp.isfinite(score)
    for part in parts.values():
        finite_score &= jnp.isfinite(part)
    usable = finite_outputs & finite_score
    score = jnp.where(usable, score, jnp.asarray(minimum, jnp.float32))
    parts = {name: jnp.where(usable, part, 0.0) for name, part in parts.items()}
    return score, parts, finite_outputs & ~finite_score


def requested(
    weights: Mapping[str, Array], time: Int[Array, ""] | int
) -> dict[str, Float[Array, " n"]]:
    """The evaluation sets of one step; the last request stays in force after the episode.

    Args:
      weights: ``{set name: [N]}``, or ``[T, N]`` where every step has a request of its own.
      time: of the step.
    """
    return {
        name: weight if weight.ndim == 1 else weight[jnp.minimum(time, weight.shape[0] - 1)]
        for name, weight in weights.items()
    }


def kept(over: Array, before: PyTree, after: PyTree) -> Any:
    """``before`` where an episode is over."""
    return jax.tree.map(lambda old, new: jnp.where(over, old, new), before, after)


def check_unedited(invalid: ArrayLike) -> None:
    """Raises ValueError where the reward of an unedited network is not finite."""
    if np.any(np.asarray(invalid)):
        raise ValueError(
            "the reward function returned a value that is not finite for the unedited network; "
            "guard its logarithms and divisions (an empty set has mean NaN)"
        )
