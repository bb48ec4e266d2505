"""Every operator of layers against torch, convolutions and poolings of many kinds among them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.subjects.pytorch.layers import OPERATORS, convolution, linear
from modeledit_jax.subjects.pytorch.layouts import Kernel, kernel_matrix
from tests.subjects.pytorch.networks import functional, torch
from tests.subjects.pytorch.operators import FLOATS, IMAGES, VOLUMES, case, check, normal

EIGHT, FOUR = normal(8), normal(4)
SQUARE = normal(2, 3, 3, seed=5)
MASK = np.tril(np.ones((5, 6), bool), -1)  # the first row sees nothing


def convolved(x, weight, *, bias=True, transposed=False, groups=1, extra=0, **how):
    axes = weight.ndim - 2
    stride, padding, dilation = (how.get(k, d) for k, d in (("s", 1), ("p", 0), ("d", 1)))
    sizes = [[v] * axes if isinstance(v, int) else v for v in (stride, padding, dilation, extra)]
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    return case(
        "aten.convolution.default", x, weight, normal(outputs) if bias else None,
        *sizes[:3], transposed, sizes[3], groups,
    )  # fmt: skip


CONVOLUTIONS = [
    convolved(IMAGES, normal(8, 4, 3, 3)),
    convolved(IMAGES, normal(8, 4, 3, 2), s=[2, 1], p=[1, 2], d=[1, 3], bias=False),
    convolved(IMAGES, normal(8, 4, 3, 3), s=3),
    convolved(IMAGES, normal(8, 4, 2, 2), s=2, p=1),
    convolved(IMAGES, normal(8, 4, 2, 2), s=2, d=2),
    convolved(IMAGES, normal(8, 4, 1, 1), s=2),
    convolved(IMAGES, normal(8, 2, 3, 3), groups=2, p=1),
    convolved(IMAGES, normal(4, 1, 3, 3), groups=4, s=2),
    convolved(IMAGES, normal(4, 8, 3, 3), transposed=True),
    convolved(IMAGES, normal(4, 8, 3, 2), transposed=True, s=[2, 3], p=[1, 0], extra=[1, 2]),
    convolved(IMAGES, normal(4, 3, 3, 3), transposed=True, groups=2, d=2, p=3, bias=False),
    convolved(FLOATS, normal(5, 3, 2), p=1),
    convolved(VOLUMES, normal(4, 3, 2, 3, 2), s=[1, 2, 2], p=1),
]
POOLINGS = [
    case("aten.max_pool2d_with_indices.default", IMAGES, [2, 2]),
    case("aten.max_pool2d_with_indices.default", IMAGES, [3, 2], [2, 2], [1, 0], [1, 2]),
    case("aten.max_pool2d_with_indices.default", IMAGES, [2, 2], [2, 2], [1, 1], [1, 1], True),
    case("aten.max_pool2d_with_indices.default", IMAGES, [3, 3], [4, 5], [1, 1], [1, 1], True),
    case("aten.max_pool3d_with_indices.default", VOLUMES, [2, 2, 2]),
    case("aten.avg_pool1d.default", FLOATS, [2], [1]),
    case("aten.avg_pool3d.default", VOLUMES, [2, 3, 2], [1, 2, 2]),
    case("aten.avg_pool2d.default", IMAGES, [2, 2]),
    *(
        case("aten.avg_pool2d.default", IMAGES, [3, 2], [2, 3], [1, 1], ceil, count)
        for ceil in (False, True)
        for count in (False, True)
    ),
    case("aten.avg_pool2d.default", IMAGES, [2, 2], [2, 2], [0, 0], False, True, 3),
    case("aten._adaptive_avg_pool2d.default", IMAGES, [4, 3]),
    case("aten._adaptive_avg_pool2d.default", IMAGES, [1, 10]),
    case("aten._adaptive_avg_pool3d.default", VOLUMES, [2, 3, 4]),
    case("aten.adaptive_max_pool2d.default", IMAGES, [4, 3]),
    case("aten.adaptive_max_pool3d.default", VOLUMES, [2, 3, 4]),
]
ATTENTION = "aten.scaled_dot_product_attention.default"
QUERY, KEY, VALUE = (normal(2, 4, n, 3, seed=s) for n, s in ((5, 5), (6, 6), (6, 7)))
BATCH = "aten._native_batch_norm_legit_no_training.default"
CASES = [
    case("aten.linear.default", FLOATS, normal(5, 4)),
    case("aten.linear.default", FLOATS[0], normal(5, 4), normal(5)),
    case("aten.addmm.default", normal(3), FLOATS[0], normal(4, 3), beta=0.5, alpha=2),
    case("aten.baddbmm.default", SQUARE, FLOATS, normal(2, 4, 3)),
    case("aten.mm.default", FLOATS[0], normal(4, 2)),
    case("aten.bmm.default", FLOATS, normal(2, 4, 2)),
    case("aten.mv.default", FLOATS[0], FOUR),
    case("aten.dot.default", FOUR, FOUR),
    case("aten.matmul.default", FLOATS, normal(4, 2)),
    *CONVOLUTIONS,
    case(BATCH, IMAGES, FOUR, -FOUR, FOUR + 1, np.abs(FOUR), 0.1, 1e-3),
    case(BATCH, FLOATS, None, None, FOUR[:3], np.abs(FOUR[:3]), 0.1, 1e-5),
    case("aten._native_batch_norm_legit.no_stats", IMAGES[:1], FOUR, -FOUR, True, 0.1, 1e-5),
    case("aten.native_layer_norm.default", IMAGES, [9, 8], normal(9, 8), normal(9, 8), 1e-5),
    case("aten.native_layer_norm.default", FLOATS, [4], None, None, 1e-2),
    case("aten.native_group_norm.default", IMAGES, FOUR, -FOUR, 2, 4, 72, 2, 1e-5),
    *POOLINGS,
    case(ATTENTION, QUERY, KEY, VALUE),
    case(ATTENTION, QUERY, KEY, VALUE, MASK),
    case(ATTENTION, QUERY, KEY, VALUE, normal(5, 6), scale=0.3),
    case(ATTENTION, QUERY, KEY, VALUE, None, 0.0, True),
    case(ATTENTION, QUERY, KEY[:, ::2], VALUE[:, ::2], enable_gqa=True),
]


@pytest.mark.parametrize(("name", "inputs", "options"), CASES)
def test_an_operator_is_that_of_torch(name, inputs, options):
    check(OPERATORS, name, inputs, options)


def test_every_operator_is_tested():
    assert {name for name, *_ in CASES} == set(OPERATORS)


@pytest.mark.parametrize("inputs", [inputs for _, inputs, _ in CONVOLUTIONS])
@pytest.mark.parametrize("unfold", [False, True])
def test_a_convolution_reads_its_kernel_as_a_matrix_too(inputs, unfold):
    x, weight, bias, *rest = inputs
    layout = "transposed" if rest[3] else "convolution"
    kernel = Kernel(jnp.asarray(kernel_matrix(weight, layout)), weight.shape[2:], unfold)
    assert kernel.matrix.ndim == 2
    given = (jnp.asarray(x), kernel, None if bias is None else jnp.asarray(bias))
    tensors = [None if a is None else torch.tensor(a) for a in (x, weight, bias)]
    expected = torch.convolution(*tensors, *rest).numpy()
    np.testing.assert_allclose(convolution(*given, *rest), expected, rtol=1e-5, atol=1e-5)


def test_an_unfolded_convolution_and_a_linear_layer_are_dense_products_with_their_matrix():
    kernel = Kernel(jnp.ones((36, 8)), (3, 3), True)

    def convolved(matrix, x):
        sizes = (1, 1), (0, 0), (1, 1), False, (0, 0), 1
        return convolution(x, kernel._replace(matrix=matrix), None, *sizes)

    for function, matrix, x in (
        (convolved, kernel.matrix, jnp.asarray(IMAGES)),
        (lambda m, x: linear(x, Kernel(m, ())), jnp.ones((4, 5)), jnp.asarray(FLOATS)),
    ):
        jaxpr = jax.make_jaxpr(function)(matrix, x).jaxpr
        (equation,) = [e for e in jaxpr.eqns if jaxpr.invars[0] in e.invars]
        assert equation.primitive.name == "dot_general" and equation.invars[1] is jaxpr.invars[0]


def test_attention_that_drops_out_is_refused():
    x = jnp.ones((1, 1, 2, 2))
    with pytest.raises(ValueError, match=r"drops out with probability 0.5 in evaluation mode"):
        OPERATORS["aten.scaled_dot_product_attention.default"](x, x, x, None, 0.5)


def test_maximum_of_integers():
    x = np.arange(16).reshape(1, 1, 4, 4)
    expected = functional.max_pool2d(torch.tensor(x, dtype=torch.float32), 2).numpy()
    found = OPERATORS["aten.max_pool2d_with_indices.default"](jnp.asarray(x), (2, 2))[0]
    np.testing.assert_array_equal(found, expected)
