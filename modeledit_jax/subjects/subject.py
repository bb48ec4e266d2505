"""The network that gets edited: a pure function and its parameters."""

from functools import cache, partial

import flax.linen as nn
import jax

from modeledit_jax import struct
from modeledit_jax.types import Apply, Array, Field, Params


@struct.dataclass
class Subject:
    """A trained network.

    Any pure ``apply`` serves: Flax Linen through `flax_apply`, NNX through ``nnx.split`` (whose
    paths end in ``/value``: see `edits.site`), Equinox through ``eqx.partition``. Build ``apply``
    once and share it: it is static under `jit`.
    """

    params: Field  # parameter pytree
    apply: Apply = struct.field(pytree_node=False)  # (params, x [N, ...]) -> logits [N, C]


@cache
def flax_apply(module: nn.Module) -> Apply:
    """Returns ``(params, x) -> module(x)``, the same function object for equal modules."""

    def apply(params: Params, x: Array) -> Array:
        return module.apply({"params": params}, x)  # type: ignore[return-value]

    return apply


@partial(jax.jit, static_argnames=("apply", "batch_size"))
def predict(apply: Apply, params: Params, x: Array, batch_size: int = 2048) -> Array:
    """Returns ``apply(params, x)`` computed ``batch_size`` examples at a time, to bound memory.

    Args:
      apply: pure ``(params, x) -> outputs``.
      params: parameter pytree.
      x: ``[N, ...]``.
      batch_size: examples of one forward pass.
    """
    return jax.lax.map(lambda one: apply(params, one[None])[0], x, batch_size=batch_size)
