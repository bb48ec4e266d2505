"""Random numbers whose stream is the same on every machine and with every NumPy to come.

NumPy promises to keep the raw bits of a bit generator, but not what `numpy.random.Generator` makes
of them (NEP 19). A corpus that a hash vouches for is drawn from the raw bits alone.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Item = TypeVar("_Item")


class StableRandom:
    """A stream of draws, fixed by its seeds."""

    def __init__(self, *seeds: int) -> None:
        self._bits = np.random.PCG64(list(seeds))

    def below(self, limit: int) -> int:
        """One of the integers 0…limit−1, uniform but for 2⁻⁶⁴."""
        return int(self._bits.random_raw()) * limit >> 64

    def pick(self, items: Sequence[_Item]) -> _Item:
        """One of the items."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        """All items in random order."""
        keys = np.asarray(self._bits.random_raw(len(items)))
        return [items[index] for index in np.argsort(keys, kind="stable")]

    def balanced(self, items: Sequence[_Item], size: int) -> list[_Item]:
        """``size`` items in random order; how often two of them occur differs by at most one."""
        repeated = self.shuffled(items) * (-(-size // len(items)))
        return self.shuffled(repeated[:size])
