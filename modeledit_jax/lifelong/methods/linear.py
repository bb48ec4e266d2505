"""The linear layer of the networks that choose or make edits."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class Linear:
    """``x W + b``."""

    kernel: Field  # [inputs, outputs] float32
    bias: Field  # [outputs] float32

    def __call__(self, x: Float[Array, "*n inputs"]) -> Float[Array, "*n outputs"]:
        product = jnp.matmul(x, self.kernel, precision=jax.lax.Precision.HIGHEST)
        return product + self.bias


def init_linear(key: Key, inputs: int, outputs: int) -> Linear:
    """A layer with PyTorch's initial weights, uniform within ±1/√inputs."""
    kernel_key, bias_key = jax.random.split(key)
    bound = inputs**-0.5
    return Linear(
        jax.random.uniform(kernel_key, (inputs, outputs), minval=-bound, maxval=bound),
        jax.random.uniform(bias_key, (outputs,), minval=-bound, maxval=bound),
    )
