"""Policies that were never trained: what they do is nonsense, but it is always the same."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.agents.equivariant import EquivariantPolicy
from modeledit_jax.editors.policy.learned import WORLD_ACTIONS, LearnedEditor


@lru_cache
def untrained(world="shift", sets=2, more=0):
    """A policy whose parameters are drawn; it reads tasks with so many evaluation sets.

    ``more``: numbers that its context has beside those of such tasks.
    """
    network = EquivariantPolicy(WORLD_ACTIONS[world], rank=2, hidden=5, rounds=1, start_scale=0.25)
    layer = {
        "inputs": jnp.zeros((3, 3 * sets)),
        "outputs": jnp.zeros((2, 6 * sets)),
        "weights": jnp.zeros((3, 2)),
        "gradient": jnp.zeros((3, 2)),
    }
    seen = {"layers": (layer,), "context": jnp.zeros(2 * sets + more)}
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32),
        jax.eval_shape(network.init, jax.random.key(0), seen),
    )
    return LearnedEditor(network, params, world)
