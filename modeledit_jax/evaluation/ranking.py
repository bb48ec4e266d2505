"""Exact ranks of scores on device: the one sort under AUCs and equal-error thresholds.

XLA sorts a single array of unsigned integers several times faster on CPUs than floats or pairs,
whose comparisons it does not inline. So the scores become integers of the same order, and the
permutation comes from two integer sorts whose keys carry the index in their low bits.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from modeledit_jax import struct
from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.types import Field

BLOCK = 64
"""Rows summed by one small matrix product; `jnp.cumsum` alone costs more on CPUs."""


@struct.dataclass
class Ranking:
    """Examples by ascending score, on ``M`` places: ``N`` rounded up to whole blocks.

    Equal scores share ``first`` and ``past``. The places from ``N`` on are padding: `in_order` has
    rows of zeros there.
    """

    order: Field  # [M] int32, the example at each place
    first: Field  # [M] int32, by place: the first place of the same score
    past: Field  # [M] int32, by place: one after the last place of the same score
    finite: Field  # [] bool, whether every score that counts is finite

    def in_order(self, columns: Float[Array, "n c"]) -> Float[Array, "k block c"]:
        """Rows by place, cut into blocks of `BLOCK`."""
        padded = jnp.pad(columns, ((0, self.order.shape[0] - columns.shape[0]), (0, 0)))
        return padded[self.order].reshape(-1, BLOCK, columns.shape[1])


def rank(scores: Float[Array, " n"], counted: Bool[Array, " n"]) -> Ranking:
    """Sorts the scores; ``-0.0`` equals ``0.0``.

    Args:
      scores: float; logits, since a sigmoid in float32 makes ties of different logits.
      counted: the examples that matter; the others may hold any score, NaN included.
    """
    check_shapes(scores=(scores, "n"), counted=(counted, "n"))
    scores = scores.astype(jnp.float32)
    keys = jnp.where(counted, _ordered_integers(scores), jnp.uint32(0))
    # No finite score has the largest key, so padding comes last.
    keys = jnp.pad(keys, (0, -keys.shape[0] % BLOCK), constant_values=jnp.uint32(0xFFFFFFFF))
    order = _argsort(keys)
    ordered = keys[order]
    change = ordered[1:] != ordered[:-1]
    edge = jnp.ones(min(keys.shape[0], 1), bool)
    place = lax.iota(jnp.int32, keys.shape[0])
    starts = jnp.where(jnp.concatenate([edge, change]), place, 0)
    ends = jnp.where(jnp.concatenate([change, edge]), place + 1, keys.shape[0])
    return Ranking(
        order=order,
        first=lax.cummax(starts),
        past=lax.cummin(ends, reverse=True),
        finite=jnp.all(jnp.isfinite(scores) | ~counted),
    )


def sums_before(blocks: Float[Array, "k block c"]) -> Float[Array, "m1 c"]:
    """Sums of all earlier rows, for every place and for one past the last (``M + 1`` rows).

    Exact while the sums are integers below 2^24.
    """
    columns = blocks.shape[-1]
    # Full precision: the accelerators' default would round the weights.
    within = jnp.einsum(
        "ij,kjc->kic",
        jnp.tril(jnp.ones((BLOCK, BLOCK), jnp.float32)),
        blocks,
        precision=lax.Precision.HIGHEST,
    )
    totals = within[:, -1]
    inclusive = within + (jnp.cumsum(totals, axis=0) - totals)[:, None]
    return jnp.pad(inclusive.reshape(-1, columns), ((1, 0), (0, 0)))


def _ordered_integers(scores: Float[Array, " n"]) -> UInt32[Array, " n"]:
    """Unsigned integers in the order of finite floats, equal where the floats are equal."""
    sign = jnp.uint32(1 << 31)
    bits = lax.bitcast_convert_type(scores, jnp.uint32)
    bits = jnp.where(bits == sign, jnp.uint32(0), bits)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _argsort(keys: UInt32[Array, " n"]) -> Int[Array, " n"]:
    """Stable argsort by digits, from the lowest: each sort packs a digit above the place."""
    place_bits = max((keys.shape[0] - 1).bit_length(), 1)
    place = lax.iota(jnp.uint32, keys.shape[0])
    order = place
    for low in range(0, 32, 32 - place_bits):
        # Shifting left drops the digits above this one, which later passes sort by.
        packed = ((keys[order] >> low) << place_bits) | place
        sorted_places = lax.sort(packed, is_stable=False) & jnp.uint32((1 << place_bits) - 1)
        order = order[sorted_places]
    return order.astype(jnp.int32)
