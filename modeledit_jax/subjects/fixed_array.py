"""Arrays that are part of a module rather than of its parameters."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True, eq=False)
class FixedArray:
    """An array that is equal by content, as a part of a module has to be."""

    values: Float32[np.ndarray, "..."]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FixedArray) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def __repr__(self) -> str:  # part of the key of a cache on disk: content, not an address
        digest = hashlib.sha256(self.values.tobytes()).hexdigest()
        return f"FixedArray({self.values.shape}, {digest[:16]})"
