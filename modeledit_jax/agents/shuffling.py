"""Random orders of many samples, without sorting them.

`jax.random.permutation` sorts random numbers, which on a CPU takes PPO a good part of an update on
many samples. A block cipher of as many bits as an index has is a permutation already, and costs a
few operations for each index.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Int, UInt32

from modeledit_jax.types import Array, Key

SORTED = 512
"""So many samples at most are sorted: there every order can come out, as likely as any other."""

ROUNDS = 8


def permutation(key: Key, size: int) -> Int[Array, " size"]:
    """The numbers 0 … ``size`` − 1 in a random order.

    Above `SORTED` numbers it is a Feistel network with keys drawn at random (Luby and Rackoff 1988,
    SIAM J. Comput. 17(2), proved four rounds of random functions to look like a random permutation;
    these are `ROUNDS` of a hash; of a power of two all orders are even permutations). Of a ``size``
    that is no power of two, the numbers of the next one are permuted, and those that are too large
    left out.

    Args:
      key: consumed.
      size: static.
    """
    if size <= SORTED:
        return jax.random.permutation(key, size)
    bits = (size - 1).bit_length()
    keys = jax.random.bits(key, (ROUNDS,))
    order = _encrypted(jnp.arange(2**bits, dtype=jnp.uint32), keys, bits).astype(jnp.int32)
    return order if len(order) == size else order[jnp.nonzero(order < size, size=size)[0]]


def _encrypted(
    numbers: UInt32[Array, " n"], keys: UInt32[Array, " rounds"], bits: int
) -> UInt32[Array, " n"]:
    """Each number as another one of so many bits: each half changes by a hash of the other."""
    low = bits // 2
    right, left = numbers & jnp.uint32(2**low - 1), numbers >> low
    for index in range(ROUNDS):
        if index % 2:
            right = right ^ (_hash(left ^ keys[index]) & jnp.uint32(2**low - 1))
        else:
            left = left ^ (_hash(right ^ keys[index]) & jnp.uint32(2 ** (bits - low) - 1))
    return (left << low) | right


def _hash(x: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
    """The finalizer of MurmurHash3 (Appleby, public domain): every bit in depends on every bit."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
