"""Running mean and deviation of a stream of token rows, the "lifelong normalization" of RLEdit.

The number of rows of a batch varies (they are the label tokens of some prompts), so batches have a
fixed number of rows and a mask that says which of them count.
"""

import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax import struct
from modeledit_jax.types import Array, Field

FLOAT32_EPSILON = 2.0**-23
"""What MALMEN, RLEdit and HiEdit add to the deviation; the same here for every dtype."""

MEND_EPSILON = 1e-7
"""What MEND adds to the deviation."""


@struct.dataclass
class RunningMoments:
    """Mean and deviation of every coordinate over all rows seen so far.

    Batches are merged by the parallel formula of Chan et al. 1979, so the state is that of all rows
    together, however they were batched; after rows one by one it is MEND's normalizer.

    With ``released`` the state follows ``RunningMeanStd`` of the released MALMEN, RLEdit and HiEdit
    instead. That adds ``n · var`` with the *unbiased* variance where the sum of squares is meant,
    which makes it n / (n − 1) times too large for a batch of n rows. A batch of one row has no
    unbiased variance: MALMEN and RLEdit turn to NaN for good, HiEdit counts it as zero, and so does
    this class. Released statistics that saw no row divide by epsilon alone.
    """

    mean: Field  # [d] float
    squares: Field  # [d] float, sum of the squared deviations from the mean
    count: Field  # () float, number of rows
    released: bool = struct.field(pytree_node=False, default=False)
    epsilon: float = struct.field(pytree_node=False, default=FLOAT32_EPSILON)

    @classmethod
    def create(
        cls,
        size: int,
        released: bool = False,
        epsilon: float = FLOAT32_EPSILON,
        dtype: type = jnp.float32,
    ) -> "RunningMoments":
        """Statistics of no rows of ``size`` coordinates."""
        zeros = jnp.zeros(size, dtype)
        return cls(zeros, zeros, jnp.zeros((), dtype), released, epsilon)

    def update(
        self, rows: Float[Array, "n d"], mask: Bool[Array, " n"] | None = None
    ) -> "RunningMoments":
        """Takes in the rows where ``mask`` is True, all if None; none at all changes nothing."""
        rows = rows.astype(self.mean.dtype)
        keep = jnp.ones(rows.shape[0], bool) if mask is None else mask
        size = keep.sum(dtype=rows.dtype)
        # Not a product with the mask: a row that does not count may hold NaN.
        rows = jnp.where(keep[:, None], rows, 0)
        batch_mean = rows.sum(0) / jnp.maximum(size, 1)
        squares = jnp.where(keep[:, None], (rows - batch_mean) ** 2, 0).sum(0)
        if self.released:
            squares *= size / jnp.maximum(size - 1, 1)
        total = self.count + size
        share = size / jnp.maximum(total, 1)
        delta = batch_mean - self.mean
        return self.replace(  # type: ignore[attr-defined]
            mean=self.mean + share * delta,
            squares=self.squares + squares + self.count * share * delta**2,
            count=total,
        )

    @property
    def std(self) -> Float[Array, " d"]:
        """``[d]``: the unbiased deviation; 1 for fewer than two rows (released: 0)."""
        few = 0.0 if self.released else 1.0
        deviation = jnp.sqrt(self.squares / jnp.maximum(self.count - 1, 1))
        return jnp.where(self.count < 2, few, deviation)

    def normalize(self, rows: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """``(rows − mean) / (std + epsilon)``, for rows of any leading axes."""
        return (rows - self.mean) / (self.std + self.epsilon)
