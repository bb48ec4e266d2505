"""The linear layer of language models, with one hook through which every editor reads and edits.

A tap of zeros makes the gradient with respect to the *output* available to `jax.grad`; with the
captured input ``U`` and that gradient ``V`` the gradient of the kernel is ``Uᵀ V``, which is
therefore never formed. A low-rank side path makes an edit of the kernel without writing to it, as
in the released code of MEND, MALMEN and RLEdit, but without any state: several candidate edits of
one network are a `jax.vmap` over hooks.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.types import Array, Field


@struct.dataclass
class Hook:
    """What is added to the output of one linear layer; every part is optional.

    The edit of the layer is ``Δ = Kᵀ M + delta``: its output becomes that of the kernel
    ``W + mask · Δ``. Zeros in every part leave the output as it is, bit for bit.

    With ``stale`` no gradient reaches ``x`` through the edit. That is what a backward pass computes
    after ``W`` was restored behind its back, as in the released RLEdit; for parity with it alone.
    """

    tap: Field = None  # [..., d_out], broadcastable to the output: differentiate with respect to it
    keys: Field = None  # K [n, d_in]
    values: Field = None  # M [n, d_out]
    mask: Field = None  # scalar: 0 switches the edit off; None is 1
    delta: Field = None  # [d_in, d_out]
    stale: bool = struct.field(pytree_node=False, default=False)


def linear(
    kernel: Float[Array, "d_in d_out"],
    x: Float[Array, "*batch d_in"],
    bias: Float[Array, " d_out"] | None = None,
    hook: Hook | None = None,
    dtype: Any = None,
) -> Float[Array, "*batch d_out"]:
    """Returns ``x W + b + mask · ((x Kᵀ) M + x delta) + tap``.

    Args:
      kernel: ``W [d_in, d_out]``.
      x: ``[..., d_in]``.
      bias: ``b [d_out]``.
      hook: see `Hook`.
      dtype: of the result; that of ``x`` if None.

    Returns:
      ``[..., d_out]``. Everything is accumulated in float32 at least and rounded once, at the end:
      a float32 edit of a bfloat16 network is not lost in the rounding of its weights.

    Raises:
      ValueError: ``keys`` without ``values``, or the reverse.
    """
    y = _matmul(x, kernel)
    if bias is not None:
        y = y + bias
    if hook is not None:
        y = _hooked(y, x, hook)
    return y.astype(x.dtype if dtype is None else dtype)


def _hooked(y: Array, x: Array, hook: Hook) -> Array:
    if (hook.keys is None) != (hook.values is None):
        raise ValueError("a hook needs both keys and values for a low-rank edit, or neither")
    mask = 1.0 if hook.mask is None else hook.mask
    x = jax.lax.stop_gradient(x) if hook.stale else x
    if hook.keys is not None:
        y = y + mask * _matmul(_matmul(x, hook.keys.T), hook.values)
    if hook.delta is not None:
        y = y + mask * _matmul(x, hook.delta)
    return y if hook.tap is None else y + hook.tap


def at_least_float32(dtype: Any) -> jnp.dtype:
    """The dtype in which sums, norms and exponentials are computed: that of a float64 network is
    float64."""
    return jnp.promote_types(dtype, jnp.float32)


def _matmul(a: Array, b: Array) -> Array:
    dtype = at_least_float32(jnp.promote_types(a.dtype, b.dtype))
    return jnp.matmul(a, b, preferred_element_type=dtype)
