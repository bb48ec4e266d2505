"""Arrays that are not what they seem.

To this kind belong labels that do not number the classes from 0 (one-hot, ``[N, 1]``, floats, text,
Booleans, −1, 1…C), choices of rows and classes that are no integers (masks, Booleans among numbers,
fractions, text, NumPy's and JAX's scalars), arrays that NumPy would broadcast against each other,
and inputs with NaN or infinity.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.arrays import (
    check_examples,
    check_integers,
    check_labels,
    check_num_classes,
    check_shapes,
    is_concrete,
    nonfinite_rows,
    row_numbers,
    whole_numbers,
)
from modeledit_jax.types import Examples

Y = np.array([0, 2, 1, 2])


@pytest.mark.parametrize("labels", [Y, Y.astype(np.uint8), jnp.asarray(Y), Y[:0]])
def test_integers_from_zero_are_labels(labels):
    check_labels(labels, 3, "y")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y + 1, "y holds labels from 1 to 3; it must be .N. integers from 0 to 2"),
        (Y - 1, "labels from -1 to 1"),
        (Y[:, None], r"y has shape \(4, 1\)"),
        (np.eye(3)[Y], r"y has shape \(4, 3\)"),
        (Y.astype(np.float32), "dtype float32"),
        (Y.astype(str), "dtype <U"),
        (Y.astype(object), "dtype object"),
        (Y > 0, "dtype bool"),
        (Y[0], r"shape \(\)"),
        (Y.tolist(), "y is a list"),
        (None, "y is a NoneType"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 3, "y")


@pytest.mark.parametrize("number", [2.0, True, "2", None, 1, np.nan])
def test_the_number_of_classes_is_an_integer_of_at_least_two(number):
    with pytest.raises(ValueError, match="num_classes must be an integer of at least 2"):
        check_num_classes(number)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (7, [7]),
        (np.int32(7), [7]),
        (np.array(7, np.uint8), [7]),
        (np.array([7, 1]), [7, 1]),
        ([np.int64(7), 2**70], [7, 2**70]),
        (range(2), [0, 1]),
        ((i for i in (3, 4)), [3, 4]),
        (np.array([]), []),
    ],
)
def test_integers_of_any_kind_are_whole_numbers(values, expected):
    assert whole_numbers(values, "classes") == expected


@pytest.mark.parametrize(
    "values",
    [2.5, [2.5], 7.0, True, [True], np.bool_(True), "7", ["7"], None, {7: 1}, np.array([[7]]),
     [[7]], np.arange(3) == 1, np.array(["7"]), [np.array([[1, 2], [3, 4]])], float("nan")],
)  # fmt: skip
def test_everything_else_is_refused_in_one_line(values):
    with pytest.raises(ValueError, match=r"^classes must be .*integer") as refused:
        whole_numbers(values, "classes")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([3, 1, 3], [1, 3]),
        (2, [2]),
        (np.array([False, True, False, True]), [1, 3]),
        ([True, False, False, False], [0]),
        ({1, 2}, [1, 2]),
        (np.array([1], np.uint64), [1]),
    ],
)
def test_rows_are_chosen_by_number_or_by_mask(indices, expected):
    rows = row_numbers(indices, 4, "indices", "the data")
    assert rows.tolist() == expected and rows.dtype == np.int64


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.ones(3, bool), r"a mask of shape \(3,\); it must have one boolean for each of 4 rows"),
        (np.ones((4, 1), bool), r"a mask of shape \(4, 1\)"),
        (True, "must be integers"),
        ([True, 3], "must be integers, got True"),
        ([1.0], "must be integers"),
        (np.zeros(4, bool), "at least one; got none"),
        ([], "at least one; got none"),
        ([1, 4], "in 0 … 3 .* got 4"),
        (-1, "got -1"),
        (10**30, "got 1000000000000000000000000000000"),
    ],
)
def test_other_choices_of_rows_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        row_numbers(indices, 4, "indices", "the data")


def test_examples_are_inputs_and_labels_of_the_same_rows(unchecked_annotations):
    x = np.zeros((4, 2), np.float32)
    check_examples(Examples(x, Y), 3, "the role train")
    holes = x.copy()
    holes[[1, 3], 0] = np.nan, np.inf
    for examples, message in (
        (Examples(x[:3], Y), r"x of the role train has shape \(3, 2\)"),
        (Examples(x.tolist(), Y), "type list"),
        (Examples(x.astype(str), Y), "dtype <U"),
        (Examples(holes, Y), "not finite in row 1, 3"),
        ((x, Y), "the role train is a tuple"),
        ({"x": x}, "the role train is a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            check_examples(examples, 3, "the role train")


def test_rows_that_are_not_finite_are_found_whatever_the_sum():
    large = np.full((3, 4), 3e38, np.float32)  # finite, though their sum is not
    assert nonfinite_rows(large).tolist() == []
    large[2, 1] = -np.inf
    assert nonfinite_rows(large).tolist() == [2]
    assert nonfinite_rows(jnp.asarray(large, jnp.bfloat16)).tolist() == [2]
    assert nonfinite_rows(np.arange(3)).tolist() == []
    assert nonfinite_rows(np.float32("nan")).tolist() == [0]


def test_a_large_array_is_looked_at_once_and_a_small_one_again():
    small, large = np.zeros(10, np.float32), np.zeros(2**22, np.float32)
    for array in (small, large):
        assert not len(nonfinite_rows(array))
        array[3] = np.nan
    assert nonfinite_rows(small).tolist() == [3]
    assert not len(nonfinite_rows(large)) and nonfinite_rows(large.copy()).tolist() == [3]


def test_shapes_are_bound_by_letters_also_of_traced_arrays():
    n, i = jnp.ones(3), jnp.ones((3, 2))
    check_shapes(a=(n, "n"), b=(i, "n i"), c=(None, "n"), d=(jnp.ones((5, 3, 2)), "... n i"))
    for arrays, message in (
        ({"a": (n, "n"), "b": (i.T, "n i")}, r"b has shape \(2, 3\), but must be .* n = 3 as in a"),
        ({"a": (n, "n"), "b": (n[:, None], "n")}, r"b has shape \(3, 1\)"),
        ({"a": (n, "... n c")}, "a has shape"),
        ({"a": (i, "3 3")}, "a has shape"),
        ({"a": ([1, 2], "n")}, "a is a list: pass an array"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda given=arrays: check_shapes(**given))


def test_integers_and_booleans_serve_as_labels_of_metrics():
    check_integers(label=Y, other=Y > 0, none=None)
    with pytest.raises(ValueError, match="label has dtype float64: pass integers"):
        check_integers(label=Y / 2)


def test_placeholders_and_traced_arrays_are_not_concrete():
    assert is_concrete(Y) and is_concrete(jnp.asarray(Y))
    assert not any(map(is_concrete, (None, object(), jax.ShapeDtypeStruct((3,), int), [1])))
    jax.eval_shape(lambda x: None if not is_concrete(x) else pytest.fail(), jnp.ones(3))
