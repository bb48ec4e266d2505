"""A function of the rows of a batch, computed of some rows at a time: the same numbers in less
memory, for of a pass through a network nothing is kept but what the function returns."""

from collections.abc import Callable

import jax

from modeledit_jax.types import Array, PyTree


def by_parts(
    function: Callable[[PyTree], PyTree], batch: PyTree, rows_at_once: int | None
) -> PyTree:
    """``function(batch)``, of as many rows at a time as divide the batch and are allowed.

    What the backward pass needs of a part is computed again.

    Args:
      function: from leaves ``[n, ...]`` to leaves ``[n, ...]``, each row by itself; pure.
      batch: leaves ``[n, ...]``.
      rows_at_once: at most; None: all.
    """
    rows = len(jax.tree.leaves(batch)[0])
    size = part_size(rows, rows_at_once)
    if size == rows:
        return function(batch)
    parts = jax.tree.map(lambda leaf: split(leaf, size), batch)
    found = jax.lax.map(jax.checkpoint(function), parts)
    return jax.tree.map(joined, found)


def part_size(rows: int, rows_at_once: int | None) -> int:
    """The largest divisor of ``rows`` that is allowed, so that all parts are of one size."""
    return max(d for d in range(1, min(rows, rows_at_once or rows) + 1) if rows % d == 0)


def split(leaf: Array, size: int) -> Array:
    """``[n, ...]`` as ``[n / size, size, ...]``.

    A part has every ``n / size``-th row: where devices have rows that follow one another, each has
    its share of every part.
    """
    return leaf.reshape(size, -1, *leaf.shape[1:]).swapaxes(0, 1)


def joined(leaf: Array) -> Array:
    """What `split` was given."""
    return leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:])
