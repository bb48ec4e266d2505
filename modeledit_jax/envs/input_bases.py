"""Coordinates for additive edits in which a layer's inputs are of one size in every direction.

Inputs of a layer are far from that: of 128 activations a few directions carry most of the second
moment, and an action of independent entries moves the outputs along these and hardly along others.
In whitened coordinates, ``W + std(C^½ W) · C^{-½} M`` with the second moments ``C`` of the inputs
on the reward's examples, independent entries of ``M`` move the outputs as much by every direction:
a search that draws them alike (PPO, evolution strategies) then has a rounder landscape. It is the
input half of natural neural networks (Desjardins et al. 2015, arXiv 1507.00210, section 3).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.edits.edit import spread
from modeledit_jax.edits.split_apply import Features, SplitApply
from modeledit_jax.types import Array, Leaves

RIDGE = 1e-3
"""Added to the second moments, in units of their mean over all directions."""


def input_bases(split: SplitApply, leaves: Leaves, features: Features) -> Leaves:
    """The basis of every edited leaf: ``std(C^½ W) / std(W) · C^{-½}``, ``{path: [D, D]}``; pure.

    Args:
      split: of the network.
      leaves: the unedited kernels ``[D, H]`` of dense layers, or of convolutions on patches.
      features: of the examples.

    Raises:
      ValueError: a leaf is used in another way than as a dense kernel.
    """
    count = features.per_example[0].shape[features.axis]
    taps = {path: jnp.zeros((count, leaf.shape[-1])) for path, leaf in leaves.items()}
    _, inputs = split.tapped(leaves, features, taps)
    return {path: _basis(leaf, inputs[path]) for path, leaf in leaves.items()}


run_bases = jax.jit(input_bases, static_argnums=0)
"""`input_bases`, compiled once for all equal splits."""


def _basis(kernel: Float[Array, "d h"], inputs: Float[Array, "n q d"]) -> Float[Array, "d d"]:
    product = lambda a, b: jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)  # noqa: E731
    rows = inputs.reshape(-1, inputs.shape[-1]).astype(jnp.float32)  # eigh knows no bfloat16
    sizes, directions = jnp.linalg.eigh(product(rows.T, rows) / len(rows))
    mean = jnp.mean(sizes)
    sizes = jnp.maximum(sizes, 0.0) + RIDGE * jnp.where(mean > 0, mean, 1.0)
    root = product(directions * jnp.sqrt(sizes), directions.T)
    inverse = product(directions / jnp.sqrt(sizes), directions.T)
    return spread(product(root, kernel)) / spread(kernel) * inverse
