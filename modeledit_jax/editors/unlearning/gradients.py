"""Sums over training examples of what the loss says of the leaves of a scope, in bounded memory."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.edits.site import get_leaves
from modeledit_jax.edits.split_apply import Features, split_apply
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.types import Apply, Array, Leaves, Params, PyTree

Setup: TypeAlias = tuple[Apply, tuple[str, ...]]
"""``apply`` and the paths of the leaves: what is compiled in."""

CHUNK = 512
"""Examples whose outputs are looked at together."""
CHUNK_OF_GRADIENTS = 16
"""Examples whose gradients, each as large as the leaves, are held together."""


def sum_over_examples(
    function: Callable[..., PyTree], arrays: PyTree, weight: Float[Array, " n"], chunk: int
) -> PyTree:
    """``Σ function(rows of arrays, weights of these rows)`` over chunks of the examples; pure.

    Args:
      function: ``(arrays of some examples, their weights [chunk]) -> sums``; of an example of
        weight 0, which fills the last chunk up, it takes no account.
      arrays: of ``N`` examples each.
      weight: of the examples.
      chunk: examples at a time.
    """
    chunk = min(chunk, len(weight))
    count = -(-len(weight) // chunk)

    def chunks(values: Array, mode: str) -> Array:
        padding = [(0, count * chunk - len(values))] + [(0, 0)] * (values.ndim - 1)
        return jnp.pad(values, padding, mode).reshape(count, chunk, *values.shape[1:])

    # With the last example again: one of zeros has no variance, and the slope of normalizations
    # there may be so large that even 0 times it is no number.
    filled = partial(chunks, mode="edge")
    given = jax.tree.map(filled, arrays), chunks(weight, mode="constant")
    shapes = jax.eval_shape(function, *jax.tree.map(lambda values: values[0], given))
    zero = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)

    def add(total: PyTree, own: tuple[PyTree, Array]) -> tuple[PyTree, None]:
        return jax.tree.map(jnp.add, total, function(*own)), None

    return jax.lax.scan(add, zero, given)[0]


@partial(jax.jit, static_argnums=0)
def mean_gradient(
    setup: Setup,
    params: Params,
    example: Array,
    features: Features,
    label: Int[Array, " n"],
    weight: Float[Array, " n"],
) -> Leaves:
    """Gradient of the weighted mean cross-entropy by the leaves.

    Args:
      setup: see `Setup`.
      params: of the network.
      example: an input ``[1, ...]``, whose shape and dtype alone matter.
      features: of the examples (`cached_features`).
      label: theirs.
      weight: likewise, at least 0; some above.
    """
    suffix, leaves = _suffix(setup, params, example, features)

    def gradient(arrays: tuple[PyTree, Array], weight: Array) -> Leaves:
        def loss(leaves: Leaves) -> Array:
            return (weight * cross_entropy(suffix(leaves, arrays[0]), arrays[1])).sum()

        return jax.grad(loss)(leaves)

    total = sum_over_examples(gradient, (features.per_example, label), weight, CHUNK)
    return jax.tree.map(lambda leaf: leaf / weight.sum(), total)


@partial(jax.jit, static_argnums=0)
def mean_squared_gradient(
    setup: Setup,
    params: Params,
    example: Array,
    features: Features,
    label: Int[Array, " n"],
    weight: Float[Array, " n"],
    total: Float[Array, ""],
) -> Leaves:
    """``Σ_n w_n (∇ ℓ_n)² / total`` by the leaves, gradients of single examples squared.

    With the examples' own labels and the sum of the weights as ``total`` it is the diagonal of the
    empirical Fisher information. Arguments as of `mean_gradient`.
    """
    suffix, leaves = _suffix(setup, params, example, features)

    def loss(leaves: Leaves, feature: PyTree, label: Array) -> Array:
        one = jax.tree.map(lambda values: values[None], feature)
        return cross_entropy(suffix(leaves, one), label[None])[0]

    def squares(arrays: tuple[PyTree, Array], weight: Array) -> Leaves:
        each = jax.vmap(jax.grad(loss), (None, 0, 0))(leaves, *arrays)
        return jax.tree.map(lambda leaf: jnp.tensordot(weight, jnp.square(leaf), 1), each)

    arrays = (features.per_example, label)
    found = sum_over_examples(squares, arrays, weight, CHUNK_OF_GRADIENTS)
    return jax.tree.map(lambda leaf: leaf / total, found)


def _suffix(
    setup: Setup, params: Params, example: Array, features: Features
) -> tuple[Callable[[Leaves, PyTree], Array], Leaves]:
    """Logits in float32 of some examples from their features, and the unedited leaves."""
    apply, paths = setup
    split = split_apply(apply, params, example, paths)

    def suffix(leaves: Leaves, per_example: PyTree) -> Array:
        return split.suffix(leaves, replace(features, per_example=per_example)).astype(jnp.float32)

    return suffix, get_leaves(params, paths)
