"""In which precision the suffix of a network is evaluated.

| | products of matrices; everything else is float32 |
|---|---|
| ``float32`` | as they were traced: ``jax_default_matmul_precision`` counts |
| ``tf32`` | `jax.lax.Precision.HIGH`: TensorFloat-32 on a GPU, three bfloat16 passes on a TPU |
| ``bfloat16`` | of operands rounded to bfloat16, sums in float32 |

JAX's own default lets a GPU take TensorFloat-32 already, so there ``tf32`` differs from ``float32``
where that default has been set to ``"highest"``; on a CPU it is the same as ``float32``. Products
inside of loops and branches stay as they were traced, and so do those of networks of less than
float32.
"""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp

from modeledit_jax.types import Array

Precision: TypeAlias = Literal["float32", "tf32", "bfloat16"]

_PRODUCTS = ("dot_general", "conv_general_dilated")


def is_product(primitive: str, dtypes: Sequence[Any]) -> bool:
    """Whether an equation, given its primitive and the dtypes of its inputs, is one of float32."""
    return primitive in _PRODUCTS and all(dtype == jnp.float32 for dtype in dtypes)


def prepared(
    precision: Precision,
    primitive: str,
    params: dict[str, Any],
    inputs: Sequence[Any],
    dtypes: Sequence[Any],
) -> tuple[dict[str, Any], list[Any]]:
    """Parameters and inputs of an equation in some precision.

    Args:
      precision: of products.
      primitive: of the equation, by name.
      params: of the primitive, as they were traced.
      inputs: those that were traced as float32 may be bfloat16 (`stored`).
      dtypes: that they were traced with.
    """
    product = is_product(primitive, dtypes)
    if product and precision == "tf32":
        params = {**params, "precision": (jax.lax.Precision.HIGH,) * 2}
    if product and precision == "bfloat16":
        if jax.default_backend() != "cpu":
            params = {**params, "precision": None, "preferred_element_type": jnp.dtype("float32")}
            return params, [jnp.asarray(x, jnp.bfloat16) for x in inputs]
        # XLA has no such product on a CPU; products of rounded float32 are the same numbers.
        inputs = [_rounded(x) for x in inputs]
    return params, [_restored(x, dtype) for x, dtype in zip(inputs, dtypes, strict=True)]


def _rounded(x: Any) -> Any:
    """To the numbers of bfloat16, in a way that XLA does not take for superfluous."""
    return x if x.dtype == jnp.bfloat16 else jax.lax.reduce_precision(x, 8, 7)


def _restored(x: Any, dtype: Any) -> Any:
    rounded = dtype == jnp.float32 and getattr(x, "dtype", None) == jnp.bfloat16
    return x.astype(jnp.float32) if rounded else x


def stored(precision: Precision, x: Array) -> Array:
    """An array that products alone read, as it is kept."""
    return x.astype(jnp.bfloat16) if precision == "bfloat16" and x.dtype == jnp.float32 else x
