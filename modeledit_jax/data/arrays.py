"""The one check of arrays that users hand in: labels, masks, numbers of rows and classes, shapes.

All but `check_shapes` and `check_integers` look at values, on the host and with NumPy: nothing is
compiled for a check. These two look at shapes and dtypes alone, so that metrics may call them
inside `jax.jit`.
"""

from typing import Any
from weakref import WeakValueDictionary

import jax
import numpy as np
from jaxtyping import Int

from modeledit_jax.types import Examples


def check_shapes(**arrays: tuple[Any, str]) -> None:
    """Raises ValueError unless arrays that belong together have shapes that fit.

    Args:
      **arrays: by name the array (None: not given) and its axes, e.g. ``label=(label, "n")``,
        ``groups=(groups, "n i")``; ``"... n c"`` allows further axes in front. An axis has the
        same size wherever its letter stands; a number is that size.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, (array, axes) in arrays.items():
        if array is None:
            continue
        if not hasattr(array, "shape"):
            raise ValueError(f"{name} is a {type(array).__name__}: pass an array, [{axes}]")
        letters, shape = axes.split(), tuple(array.shape)
        leading = letters[:1] == ["..."]
        own = shape[len(shape) - len(letters) + 1 :] if leading else shape
        letters = letters[leading:]
        known = [(letter, *sizes[letter]) for letter in letters if letter in sizes]
        fits = len(own) == len(letters)
        for letter, size in zip(letters, own, strict=False):
            fits &= size == (int(letter) if letter.isdigit() else sizes.get(letter, (size,))[0])
        if not fits:
            why = ", ".join(f"{letter} = {size} as in {other}" for letter, size, other in known)
            raise ValueError(
                f"{name} has shape {shape}, but must be [{', '.join(axes.split())}]"
                f"{why and ' with ' + why}: reshape it, or pass the one that belongs to the others"
            )
        for letter, size in zip(letters, own, strict=True):
            if letter.isdigit():
                continue
            sizes.setdefault(letter, (size, name))


def check_integers(**arrays: Any) -> None:
    """Raises ValueError unless arrays (None: not given) hold integers or booleans."""
    for name, array in arrays.items():
        if array is not None and array.dtype.kind not in "iub":
            raise ValueError(
                f"{name} has dtype {array.dtype}: pass integers, e.g. (score >= 0.5).astype(int)"
            )


def is_concrete(array: Any) -> bool:
    """Whether an array has values that can be looked at: no placeholder, and not traced."""
    return isinstance(array, np.ndarray | jax.Array) and not isinstance(array, jax.core.Tracer)


_LARGE = 2**22
"""Entries of an array that is looked at once: all tasks of a data set share its training inputs."""

_finite: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""Large arrays that were found to be finite, by their identity."""


def nonfinite_rows(array: Any) -> Int[np.ndarray, " k"]:
    """Rows (along the first axis) that hold NaN or infinity; none for other dtypes than floats.

    Arrays of some millions of entries are looked at once, and what is written into them later is
    not seen.
    """
    if not jax.dtypes.issubdtype(array.dtype, np.floating) or _finite.get(id(array)) is array:
        return np.zeros(0, np.int64)
    rows = _nonfinite_rows(array)
    if not len(rows) and array.size >= _LARGE:
        _finite[id(array)] = array
    return rows


def _nonfinite_rows(array: Any) -> Int[np.ndarray, " k"]:
    values = np.asarray(array)
    with np.errstate(all="ignore"):  # one pass and no copy where all is well
        if np.isfinite(np.sum(values, dtype=np.float64 if values.itemsize > 4 else np.float32)):
            return np.zeros(0, np.int64)
    rows = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
    return np.flatnonzero(~np.isfinite(rows).all(axis=1))


def brief(numbers: Any, most: int = 5) -> str:
    """``"1, 2, 3, …"``, the first of many numbers."""
    shown = ", ".join(str(number) for number in list(numbers[:most]))
    return shown + (", …" if len(numbers) > most else "")


def check_labels(labels: Any, num_classes: int, name: str) -> None:
    """Raises ValueError unless ``labels`` is ``[N]`` integers in 0…num_classes − 1.

    Args:
      labels: any array.
      num_classes: how many classes there are.
      name: what the user calls the labels.
    """
    if not hasattr(labels, "shape"):
        raise ValueError(f"{name} is a {type(labels).__name__}: pass an array [N] of integers")
    wanted = f"[N] integers from 0 to {num_classes - 1}"
    if len(labels.shape) != 1:
        cure = "one label for each example, e.g. labels[:, 0] or labels.argmax(axis=1)"
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; it must be {wanted}: {cure}")
    values = np.asarray(labels)
    if values.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has dtype {values.dtype}; it must be {wanted}: number the classes from 0"
        )
    if len(values) and not 0 <= values.min() <= values.max() < num_classes:
        raise ValueError(
            f"{name} holds labels from {values.min()} to {values.max()}; it must be {wanted}: "
            "number the classes from 0, or correct num_classes"
        )


def check_num_classes(num_classes: Any) -> None:
    """Raises ValueError unless it is an integer of at least 2."""
    whole = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
    if not whole or num_classes < 2:
        raise ValueError(f"num_classes must be an integer of at least 2, got {_shown(num_classes)}")


def check_examples(examples: Examples, num_classes: int, name: str) -> None:
    """Raises ValueError unless ``x [N, ...]`` and ``y [N]`` are arrays of labeled examples.

    Args:
      examples: what the user has given.
      num_classes: how many classes there are.
      name: of the role.
    """
    if not (hasattr(examples, "x") and hasattr(examples, "y")):
        raise ValueError(
            f"{name} is a {type(examples).__name__}: pass Examples(x, y) of modeledit_jax.types"
        )
    check_labels(examples.y, num_classes, f"y of {name}")
    x = examples.x
    if not hasattr(x, "shape") or len(x.shape) < 1 or x.shape[0] != examples.y.shape[0]:
        found = f"shape {tuple(x.shape)}" if hasattr(x, "shape") else f"type {type(x).__name__}"
        raise ValueError(
            f"x of {name} has {found}; it must be an array of {examples.y.shape[0]} rows, one for "
            "each label"
        )
    if not (jax.dtypes.issubdtype(x.dtype, np.number) or x.dtype == bool):
        raise ValueError(f"x of {name} has dtype {x.dtype}: pass numbers")
    check_finite_rows(x, f"x of {name}")


def check_finite_rows(x: Any, name: str) -> None:
    """Raises ValueError where rows of ``x`` hold NaN or infinity, naming them."""
    if len(rows := nonfinite_rows(x)):
        raise ValueError(
            f"{name} has values that are not finite in row {brief(rows)}: replace or drop them"
        )


def whole_numbers(values: Any, name: str) -> list[int]:
    """One integer or several, as a list of Python's.

    Args:
      values: an integer, or an array or a collection of them, also of NumPy's or JAX's.
      name: what the user calls them.

    Raises:
      ValueError: booleans, fractions, text, or an array of several axes.
    """
    if isinstance(values, str | bytes | dict):
        raise ValueError(f"{name} must be integers, got {_shown(values)}")
    if hasattr(values, "__array__"):
        array = np.asarray(values)
        if array.size == 0:
            return []
        if array.ndim > 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"{name} must be one integer or [k] integers, got shape {array.shape} of dtype "
                f"{array.dtype}: pass an array of integers"
            )
        return array.reshape(-1).tolist()
    return [_whole_number(value, name) for value in (values if np.iterable(values) else [values])]


def _whole_number(value: Any, name: str) -> int:
    array = np.asarray(value if isinstance(value, int) or hasattr(value, "__array__") else "")
    big = isinstance(value, int) and not isinstance(value, bool)  # of any size
    if not big and (array.ndim or array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be integers, got {_shown(value)}: pass whole numbers")
    return int(value)


def _shown(value: Any) -> str:
    """A value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"


def row_numbers(indices: Any, size: int, name: str, of: str) -> Int[np.ndarray, " k"]:
    """Rows chosen by number or by mask, each once and in order.

    Args:
      indices: an integer, integers, or a mask: booleans, one for each row.
      size: how many rows there are.
      name: what the user calls the choice.
      of: what the rows are of.

    Raises:
      ValueError: no row, one that is not there, a mask of another length, or no integers.
    """
    if not hasattr(indices, "__array__") and np.iterable(indices):
        indices = list(indices)
    mask = _mask(indices)
    if mask is None:
        rows = np.array(sorted(set(whole_numbers(indices, name))), dtype=object)
    elif mask.shape != (size,):
        raise ValueError(
            f"{name} is a mask of shape {mask.shape}; it must have one boolean for each of {size} "
            f"rows of {of}, or be row numbers"
        )
    else:
        rows = np.flatnonzero(mask)
    if len(rows) == 0 or rows[0] < 0 or rows[-1] >= size:
        got = brief([row for row in rows if not 0 <= row < size]) or "none"
        raise ValueError(
            f"{name} must be in 0 … {size - 1} (rows of {of}) and at least one; got {got}"
        )
    return rows.astype(np.int64)


def _mask(indices: Any) -> np.ndarray | None:
    """The choice as booleans, if it is one."""
    if hasattr(indices, "__array__"):
        array = np.asarray(indices)
        return array if array.dtype == bool else None
    if isinstance(indices, list) and indices and all(map(_is_boolean, indices)):
        return np.array(indices, bool)
    return None


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)
