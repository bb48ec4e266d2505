"""The flat observation of weights, and the spaces of observations."""

from collections.abc import Mapping

import jax.numpy as jnp
from gymnax.environments import spaces
from jaxtyping import Float

from modeledit_jax.edits.edit import spread
from modeledit_jax.types import Array, Leaves, PyTree


def weights_and_parts(
    leaves: Leaves, original: Leaves, parts: Mapping[str, Array], gone: Array, bound: float
) -> Float[Array, " observation"]:
    """Weights in units of the unedited ones, parts of the last score, and the time gone ``[1]``.

    Finite, though repeated edits may overflow: weights are clipped at ``bound``.
    """

    def shown(leaf: Array, unedited: Array) -> Array:
        units = (leaf - jnp.mean(unedited)) / spread(unedited)
        return jnp.nan_to_num(jnp.clip(units, -bound, bound)).ravel()

    # Sorted, because JAX sorts the keys of a dictionary that passes through a transformation:
    # as it stands, the order right after an edit would differ from that after a reset.
    weights = [shown(leaf, original[path]) for path, leaf in sorted(leaves.items())]
    numbers = [jnp.asarray(part, jnp.float32)[None] for _, part in sorted(parts.items())]
    return jnp.concatenate([*weights, *numbers, gone])


def unbounded_space(observation: PyTree) -> spaces.Space:
    """The unbounded space of an observation, given by its shapes."""
    if isinstance(observation, dict):
        return spaces.Dict({name: unbounded_space(entry) for name, entry in observation.items()})
    if isinstance(observation, tuple):
        return spaces.Tuple([unbounded_space(entry) for entry in observation])
    return spaces.Box(-jnp.inf, jnp.inf, observation.shape, jnp.float32)
