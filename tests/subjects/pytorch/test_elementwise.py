"""Every operator on single numbers, and every reduction, against torch on random numbers."""

import numpy as np
import pytest

from modeledit_jax.subjects.pytorch.elementwise import OPERATORS
from tests.subjects.pytorch.operators import FLOATS, INTEGERS, POSITIVE, case, check, normal

INFINITE = np.where(FLOATS > 0.5, -np.inf, FLOATS).astype(np.float32)
INFINITE[0, 0] = -np.inf
OTHER = normal(3, 4)
MATRIX = FLOATS > 0
UNARY = ["abs", "ceil", "cos", "elu", "erf", "exp", "expm1", "floor", "gelu", "hardtanh", "isnan"]
UNARY += ["leaky_relu", "neg", "reciprocal", "relu", "round", "sigmoid", "sign", "sin", "tanh"]
UNARY += ["trunc"]
BINARY = ["add", "div", "eq", "fmod", "ge", "gt", "le", "lt", "mul", "ne", "remainder", "sub"]

CASES = [
    *(case(f"aten.{name}.default", FLOATS) for name in UNARY),
    *(case(f"aten.{name}.default", POSITIVE) for name in ("log", "log1p", "rsqrt", "sqrt")),
    *(case(f"aten.{name}.default", MATRIX) for name in ("bitwise_not", "logical_not")),
    *(case(f"aten.{name}.Tensor", MATRIX, ~MATRIX[0]) for name in ("bitwise_and", "bitwise_or")),
    *(case(f"aten.{name}.Scalar", INTEGERS, 3) for name in ("bitwise_and", "bitwise_or")),
    *(case(f"aten.{name}.default", MATRIX, ~MATRIX[0]) for name in ("logical_and", "logical_or")),
    *(case(f"aten.{name}.Tensor", FLOATS, OTHER) for name in BINARY),
    *(case(f"aten.{name}.Scalar", INTEGERS, 2) for name in BINARY),
    case("aten.add.Tensor", FLOATS, OTHER, alpha=2.5),
    case("aten.sub.Tensor", INTEGERS, INTEGERS[0], alpha=3),
    case("aten.add.Tensor", INTEGERS, 0.5),
    case("aten.div.Tensor", INTEGERS, 4),
    *(
        case(f"aten.div.{kind}", *inputs, rounding_mode=mode)
        for kind, inputs in (("Tensor_mode", (FLOATS, OTHER)), ("Scalar_mode", (INTEGERS, 3)))
        for mode in (None, "floor", "trunc")
    ),
    case("aten.pow.Tensor_Tensor", POSITIVE, OTHER),
    case("aten.pow.Tensor_Scalar", FLOATS, 3),
    case("aten.pow.Tensor_Scalar", POSITIVE, -0.5),
    case("aten.pow.Scalar", 2.0, FLOATS),
    case("aten.clamp.default", FLOATS, -0.3),
    case("aten.clamp.default", FLOATS, None, 0.4),
    case("aten.clamp.Tensor", FLOATS, -np.abs(OTHER), np.abs(OTHER)),
    case("aten.maximum.default", FLOATS, OTHER),
    case("aten.minimum.default", FLOATS, OTHER),
    case("aten.where.self", MATRIX, FLOATS, OTHER),
    case("aten.gelu.default", FLOATS, approximate="tanh"),
    case("aten.leaky_relu.default", FLOATS, 0.3),
    case("aten.elu.default", FLOATS, 1.7, 1.1, 0.6),
    case("aten.hardtanh.default", FLOATS, 0, 6),
    case("aten._softmax.default", FLOATS, 1, False),
    case("aten._log_softmax.default", FLOATS, -1, False),
    case("aten._safe_softmax.default", INFINITE, -1),
    *(
        case(f"aten.{name}.{kind}", FLOATS, *rest)
        for name, kind in (("sum", "dim_IntList"), ("mean", "dim"))
        for rest in ([[0, -1]], [[1], True], [None])
    ),
    case("aten.sum.default", MATRIX),
    case("aten.sum.dim_IntList", INTEGERS, []),
    case("aten.mean.default", FLOATS),
    case("aten.any.default", MATRIX),
    case("aten.any.dim", MATRIX, 1, True),
    case("aten.any.dims", MATRIX, [0, 2]),
    case("aten.amax.default", FLOATS, [1, 2], True),
    case("aten.amin.default", FLOATS, []),
    case("aten.argmax.default", FLOATS, -1, True),
    case("aten.argmin.default", FLOATS),
    case("aten.cumsum.default", FLOATS, 1),
    case("aten.max.dim", FLOATS, 1),
    case("aten.min.dim", FLOATS, -1, True),
    case("aten.var.correction", FLOATS, [1], correction=0, keepdim=True),
    case("aten.var.correction", FLOATS),
    *(
        case("aten.linalg_vector_norm.default", FLOATS, order, [1], True)
        for order in (1, 2, 3.0, float("inf"))
    ),
]


@pytest.mark.parametrize(("name", "inputs", "options"), CASES)
def test_an_operator_is_that_of_torch(name, inputs, options):
    check(OPERATORS, name, inputs, options)


def test_every_operator_is_tested():
    assert {name for name, *_ in CASES} == set(OPERATORS)
