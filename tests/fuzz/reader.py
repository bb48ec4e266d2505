"""What is fuzzed: a file, how to write a right one, and what reads it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Reader:
    """A file and what reads it.

    Attributes:
      write: fills an empty folder with right files.
      file: the one that is damaged, below the folder; may be a pattern.
      read: reads the folder; the errors allowed are ValueError and OSError.
      exact: damage is never right: the file has a digest.
      right: whether what was read from a damaged file can be used.
    """

    write: Callable[[Path], Any]
    file: str
    read: Callable[[Path], Any]
    exact: bool = False
    right: Callable[[Any], bool] = lambda result: True


def finite(tree: Any) -> bool:
    """Whether all numbers of a tree are."""
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


def same(tree: Any, other: Any) -> bool:
    """Whether two trees of arrays, numbers and texts have the same structure and bits."""
    (leaves, form), (others, of_other) = jax.tree.flatten(tree), jax.tree.flatten(other)
    return form == of_other and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(map(np.asarray, leaves), map(np.asarray, others), strict=True)
    )
