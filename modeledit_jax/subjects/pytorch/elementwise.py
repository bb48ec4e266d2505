"""ATen operators on single numbers, and reductions, as functions of JAX."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from modeledit_jax.types import Array

Number: TypeAlias = float | int

_UNARY: dict[str, Callable[[Array], Array]] = {
    "abs": jnp.abs,
    "bitwise_not": jnp.bitwise_not,
    "ceil": jnp.ceil,
    "cos": jnp.cos,
    "erf": jax.lax.erf,
    "exp": jnp.exp,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "isnan": jnp.isnan,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "logical_not": jnp.logical_not,
    "neg": jnp.negative,
    "reciprocal": jnp.reciprocal,
    "relu": jax.nn.relu,
    "round": jnp.round,
    "rsqrt": jax.lax.rsqrt,
    "sigmoid": jax.nn.sigmoid,
    "sign": jnp.sign,
    "sin": jnp.sin,
    "sqrt": jnp.sqrt,
    "tanh": jnp.tanh,
    "trunc": jnp.trunc,
}

_BINARY: dict[str, Callable[[Any, Any], Array]] = {
    "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or,
    "eq": jnp.equal,
    "fmod": jnp.fmod,
    "ge": jnp.greater_equal,
    "gt": jnp.greater,
    "le": jnp.less_equal,
    "lt": jnp.less,
    "ne": jnp.not_equal,
    "remainder": jnp.remainder,
}


def add(x: Any, y: Any, alpha: Number = 1) -> Array:
    return jnp.add(x, y if alpha == 1 else alpha * y)


def sub(x: Any, y: Any, alpha: Number = 1) -> Array:
    return jnp.subtract(x, y if alpha == 1 else alpha * y)


def div(x: Any, y: Any, rounding_mode: str | None = None) -> Array:
    """A quotient, rounded down or toward zero if the mode says so."""
    if rounding_mode == "floor":
        return jnp.floor_divide(x, y)
    quotient = jnp.true_divide(x, y)
    if rounding_mode is None:
        return quotient
    return jnp.trunc(quotient).astype(jnp.result_type(x, y))


def clamp(x: Array, min: Any = None, max: Any = None) -> Array:
    return jnp.clip(x, min, max)


def gelu(x: Array, approximate: str = "none") -> Array:
    return jax.nn.gelu(x, approximate=approximate == "tanh")


def leaky_relu(x: Array, negative_slope: Number = 0.01) -> Array:
    return jnp.where(x > 0, x, negative_slope * x)


def elu(x: Array, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Array:
    below = alpha * jnp.expm1(jnp.minimum(x, 0) * input_scale)
    return scale * jnp.where(x > 0, x, below)


def hardtanh(x: Array, min_val: Number = -1, max_val: Number = 1) -> Array:
    return jnp.clip(x, min_val, max_val)


def softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    del half_to_float
    return jax.nn.softmax(x, axis=dim)


def log_softmax(x: Array, dim: int, half_to_float: bool = False) -> Array:
    del half_to_float
    return jax.nn.log_softmax(x, axis=dim)


def safe_softmax(x: Array, dim: int) -> Array:
    """Softmax that gives zeros where everything is minus infinity."""
    hidden = jnp.all(x == -jnp.inf, axis=dim, keepdims=True)
    return jnp.where(hidden, 0.0, jax.nn.softmax(jnp.where(hidden, 0.0, x), axis=dim))


def _axes(dim: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    """Axes of a reduction; no axis means all of them, as in torch."""
    if dim is None or isinstance(dim, int):
        return dim
    return tuple(dim) or None


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, dim: Any = None, keepdim: bool = False) -> Array:
        return function(x, axis=_axes(dim), keepdims=keepdim)

    return reduce


def max_along(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The largest values along an axis, and where they are."""
    return jnp.max(x, dim, keepdims=keepdim), jnp.argmax(x, dim, keepdims=keepdim)


def min_along(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    return jnp.min(x, dim, keepdims=keepdim), jnp.argmin(x, dim, keepdims=keepdim)


def variance(
    x: Array, dim: Any = None, *, correction: Number | None = None, keepdim: bool = False
) -> Array:
    ddof: Any = 1 if correction is None else correction
    return jnp.var(x, axis=_axes(dim), ddof=ddof, keepdims=keepdim)


def vector_norm(x: Array, ord: Number = 2, dim: Any = None, keepdim: bool = False) -> Array:
    """``(Σ |x|^ord)^(1 / ord)``, and the largest ``|x|`` for infinity."""
    size, axis = jnp.abs(x), _axes(dim)
    if ord == float("inf"):
        return jnp.max(size, axis=axis, keepdims=keepdim)
    if ord == 2:
        return jnp.sqrt(jnp.sum(jnp.square(x), axis=axis, keepdims=keepdim))
    return jnp.sum(size**ord, axis=axis, keepdims=keepdim) ** (1 / ord)


OPERATORS: dict[str, Callable[..., Any]] = {
    **{f"aten.{name}.default": function for name, function in _UNARY.items()},
    **{
        f"aten.{name}.{kind}": function
        for name, function in _BINARY.items()
        for kind in ("Tensor", "Scalar")
    },
    **{f"aten.add.{kind}": add for kind in ("Tensor", "Scalar")},
    **{f"aten.sub.{kind}": sub for kind in ("Tensor", "Scalar")},
    **{f"aten.mul.{kind}": jnp.multiply for kind in ("Tensor", "Scalar")},
    **{f"aten.div.{kind}": div for kind in ("Tensor", "Scalar", "Tensor_mode", "Scalar_mode")},
    **{f"aten.pow.{kind}": jnp.power for kind in ("Tensor_Tensor", "Tensor_Scalar", "Scalar")},
    **{f"aten.clamp.{kind}": clamp for kind in ("default", "Tensor")},
    "aten.maximum.default": jnp.maximum,
    "aten.minimum.default": jnp.minimum,
    "aten.logical_and.default": jnp.logical_and,
    "aten.logical_or.default": jnp.logical_or,
    "aten.where.self": jnp.where,
    "aten.gelu.default": gelu,
    "aten.leaky_relu.default": leaky_relu,
    "aten.elu.default": elu,
    "aten.hardtanh.default": hardtanh,
    "aten._softmax.default": softmax,
    "aten._log_softmax.default": log_softmax,
    "aten._safe_softmax.default": safe_softmax,
    **{f"aten.sum.{kind}": _reduction(jnp.sum) for kind in ("default", "dim_IntList")},
    **{f"aten.mean.{kind}": _reduction(jnp.mean) for kind in ("default", "dim")},
    **{f"aten.any.{kind}": _reduction(jnp.any) for kind in ("default", "dim", "dims")},
    "aten.amax.default": _reduction(jnp.max),
    "aten.amin.default": _reduction(jnp.min),
    "aten.argmax.default": _reduction(jnp.argmax),
    "aten.argmin.default": _reduction(jnp.argmin),
    "aten.cumsum.default": jnp.cumsum,
    "aten.max.dim": max_along,
    "aten.min.dim": min_along,
    "aten.var.correction": variance,
    "aten.linalg_vector_norm.default": vector_norm,
}
