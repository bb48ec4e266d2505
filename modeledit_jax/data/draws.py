"""Random numbers whose stream is the same on every machine and with every NumPy to come.

NumPy promises to keep the raw bits of a bit generator, but not what `numpy.random.Generator` makes
of them (NEP 19). A corpus that a hash vouches for is drawn from the raw bits alone.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int

_Item = TypeVar("_Item")


class Draws:
    """A stream of draws, fixed by its seeds."""

    def __init__(self, *seeds: int) -> None:
        self._bits = np.random.PCG64(list(seeds))

    def below(self, limit: int, size: int) -> Int[np.ndarray, " size"]:
        """``size`` integers in 0…limit−1, uniform but for 2⁻⁵³."""
        raw = np.asarray(self._bits.random_raw(size), np.uint64)
        return ((raw >> np.uint64(11)) * 2.0**-53 * limit).astype(np.int64)

    def permutation(self, size: int) -> Int[np.ndarray, " size"]:
        """The integers 0…size−1 in random order."""
        return np.argsort(np.asarray(self._bits.random_raw(size), np.uint64), kind="stable")

    def pick(self, items: Sequence[_Item]) -> _Item:
        """One of the items."""
        return items[int(self.below(len(items), 1)[0])]

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """All items in random order."""
        return [items[index] for index in self.permutation(len(items))]

    def balanced(self, items: Sequence[_Item], size: int) -> list[_Item]:
        """``size`` items in random order; how often two of them occur differs by at most one."""
        repeated = self.shuffled(items) * (-(-size // len(items)))
        return self.shuffled(repeated[:size])
