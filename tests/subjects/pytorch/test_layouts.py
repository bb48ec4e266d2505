"""Layouts of kernels: both directions, and what a row and a column of a matrix are."""

import numpy as np
import pytest

from modeledit_jax.subjects.pytorch.layouts import Leaf, kernel_matrix, torch_tensor

SHAPES = {
    "torch": [(), (3,), (2, 3, 4)],
    "dense": [(5, 3)],
    "convolution": [(5, 3, 2), (5, 3, 2, 4), (5, 3, 2, 4, 3)],
    "grouped": [(6, 1, 2, 4)],
    "transposed": [(3, 5, 2), (3, 5, 2, 4)],
}


@pytest.mark.parametrize(("layout", "shape"), [(k, s) for k, v in SHAPES.items() for s in v])
def test_a_tensor_comes_back(layout, shape):
    tensor = np.random.default_rng(0).normal(size=shape)
    matrix = kernel_matrix(tensor, layout)
    assert matrix.ndim == (tensor.ndim if layout == "torch" else 2)
    np.testing.assert_array_equal(torch_tensor(matrix, layout, shape), tensor)


def test_a_column_is_an_output_and_rows_are_ordered_row_column_input():
    tensor = np.arange(5 * 3 * 2 * 4).reshape(5, 3, 2, 4)
    matrix = kernel_matrix(tensor, "convolution")
    assert matrix[(1 * 4 + 2) * 3 + 1, 4] == tensor[4, 1, 1, 2]
    turned = kernel_matrix(tensor, "transposed")
    assert turned[(1 * 4 + 2) * 5 + 4, 1] == tensor[4, 1, 1, 2]
    dense = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(kernel_matrix(dense, "dense"), dense.T)


def test_the_path_of_a_leaf_is_its_name_with_slashes():
    leaf = Leaf("f.0.weight", "params", (2, 3), "float32", "dense", ("f.0.weight",), ("p",))
    assert leaf.path == "params/f/0/weight"
