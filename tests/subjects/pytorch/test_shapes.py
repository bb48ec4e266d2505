"""Every operator that moves, selects, joins or makes numbers, against torch."""

import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.subjects.pytorch.shapes import OPERATORS
from tests.subjects.pytorch.operators import FLOATS, INTEGERS, case, check, normal

PLACES = np.array([[0, 2, 1], [1, 1, 0]], np.int32)
END = 9223372036854775807  # what torch calls the end of an axis

CASES = [
    *(case(f"aten.{n}.default", FLOATS, [4, -1]) for n in ("view", "_unsafe_view", "reshape")),
    case("aten.permute.default", FLOATS, [-1, 0, 1]),
    case("aten.t.default", FLOATS[0]),
    case("aten.transpose.int", FLOATS, 0, -1),
    case("aten.unsqueeze.default", FLOATS, -2),
    case("aten.squeeze.default", normal(1, 3, 1)),
    case("aten.squeeze.dim", normal(1, 3, 1), 1),
    case("aten.squeeze.dims", normal(1, 3, 1), [0, -2]),
    case("aten.expand.default", normal(3, 1), [2, -1, 4]),
    case("aten.cat.default", [FLOATS, normal(0), FLOATS[:, :1]], 1),
    case("aten.stack.default", [FLOATS, -FLOATS], 1),
    case("aten.slice.Tensor", FLOATS),
    case("aten.slice.Tensor", FLOATS, 1, -2, END),
    case("aten.slice.Tensor", FLOATS, 2, 0, 4, 3),
    case("aten.slice_scatter.default", FLOATS, normal(2, 2, 4), 1, 1, END),
    case("aten.select.int", FLOATS, 1, -1),
    case("aten.select_scatter.default", FLOATS, normal(2, 4), 1, 2),
    case("aten.split_with_sizes.default", FLOATS, [1, 3], -1),
    case("aten.split.Tensor", FLOATS, 2, 1),
    case("aten.unbind.int", FLOATS, 1),
    case("aten.index.Tensor", FLOATS, [None, PLACES[0], PLACES[1]]),
    case("aten.index.Tensor", FLOATS, [PLACES[1], None, PLACES[1]]),
    case("aten._unsafe_index.Tensor", FLOATS, [None, PLACES]),
    case("aten.index_select.default", FLOATS, 1, PLACES[0]),
    case("aten.gather.default", FLOATS[0], 1, PLACES),
    case("aten.gather.default", FLOATS[0], -2, PLACES),
    case("aten.embedding.default", normal(3, 5), PLACES, -1, False, False),
    case("aten.repeat.default", FLOATS, [2, 1, 1, 3]),
    case("aten.constant_pad_nd.default", FLOATS, [1, 2, -1, 3], 0.5),
    case("aten.flip.default", FLOATS, [0, -1]),
    *(case(f"aten.{n}.default", FLOATS) for n in ("clone", "alias", "detach", "contiguous")),
    *(case(f"aten.{n}.default", INTEGERS) for n in ("lift_fresh_copy", "_to_copy")),
    case("aten.copy.default", FLOATS, FLOATS[0, 0]),
    case("aten.full.default", [2, 3], 0.5),
    case("aten.full.default", [], True),
    case("aten.full_like.default", FLOATS, -1.0),
    case("aten.scalar_tensor.default", 1.5),
    case("aten.arange.start_step", 1, 8, 3),
    case("aten.sym_size.int", FLOATS, 1),
]


@pytest.mark.parametrize(("name", "inputs", "options"), CASES)
def test_an_operator_is_that_of_torch(name, inputs, options):
    check(OPERATORS, name, inputs, options)


def test_what_is_not_written_yet_has_a_shape():
    assert OPERATORS["aten.empty.memory_format"]((2, 3)).shape == (2, 3)


def test_every_operator_is_tested():
    assert {name for name, *_ in CASES} | {"aten.empty.memory_format"} == set(OPERATORS)


def test_an_array_that_is_all_ends_is_joined_with_itself():
    found = OPERATORS["aten.cat.default"]((jnp.zeros((0,)), jnp.ones((2, 2))), 0)
    np.testing.assert_array_equal(found, np.ones((2, 2)))
