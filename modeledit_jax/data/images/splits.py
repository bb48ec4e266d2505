"""Four disjoint roles of a labeled data set, so that no number is reported on rows that shaped it.

``train`` fits the subject network, ``reward`` feeds the reward, ``select`` chooses among candidates
and hyper-parameters, ``test`` is looked at last and never by an environment.
"""

from typing import Any

import numpy as np
from jaxtyping import Int

from modeledit_jax import struct
from modeledit_jax.data.arrays import check_examples, check_num_classes
from modeledit_jax.data.images.datasets import ImageData
from modeledit_jax.types import Examples

ROLES = ("train", "reward", "select", "test")
"""Names of the roles, in the order in which `Splits` holds them."""

_LARGE = 20_000  # training rows from which reward and select get 5,000 rows each
_FRACTIONS = {"reward": 0.25, "select": 0.12, "test": 0.20}  # of a smaller data set


@struct.dataclass
class Splits:
    """One data set in four disjoint roles; `x` float32 [N, height, width, channels], `y` int32.

    NumPy arrays are checked at once (`check_splits`), others where a task is made of them: JAX
    rebuilds such dataclasses with placeholders.
    """

    train: Examples
    reward: Examples
    select: Examples
    test: Examples
    num_classes: int = struct.field(pytree_node=False)

    def __post_init__(self) -> None:
        roles = [getattr(self, role) for role in ROLES]
        arrays = [
            array for role in roles if isinstance(role, Examples) for array in (role.x, role.y)
        ]
        if len(arrays) == 2 * len(ROLES) and all(isinstance(a, np.ndarray) for a in arrays):
            check_splits(self)


def check_splits(splits: Any) -> None:
    """Raises ValueError unless every role holds inputs ``[N, ...]`` and labels ``[N]``.

    Labels are integers in 0…num_classes − 1, inputs are finite.

    Args:
      splits: what the user has given.
    """
    if missing := [name for name in (*ROLES, "num_classes") if not hasattr(splits, name)]:
        raise ValueError(
            f"splits is a {type(splits).__name__} without {', '.join(missing)}: pass "
            "Splits(train=Examples(x, y), reward=…, select=…, test=…, num_classes=…)"
        )
    check_num_classes(splits.num_classes)
    for role in ROLES:
        check_examples(getattr(splits, role), splits.num_classes, f"the role {role}")


def split_images(
    data: ImageData,
    *,
    reward: int | None = None,
    select: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> Splits:
    """Splits a data set into the four roles, stratified by class and shuffled.

    An official test set becomes ``test`` untouched and in its own order; the other roles share the
    training rows. Without one, all four share them. The number of rows of a class in a shared role
    differs by at most one from the class's share of that role.

    Args:
      data: the data set.
      reward, select: rows of these roles. Default 5,000 each if the data set has an official test
        set and at least 20,000 training rows, else 25 % and 12 % of the rows.
      test: rows of the test role, default 20 %; not to be given with an official test set.
      seed: of the NumPy generator that shuffles.

    Returns:
      NumPy arrays in four `Examples`; ``train`` holds what the other roles leave.

    Raises:
      ValueError: the sizes do not fit, or some class would be missing from some role.
    """
    sizes = _role_sizes(data, reward, select, test)
    class_sizes = np.bincount(data.y, minlength=data.num_classes)
    counts = _allocate(np.array(list(sizes.values())), class_sizes)
    indices = _draw(data.y, counts, np.random.default_rng(seed))
    roles = {
        role: Examples(x=data.x[rows], y=data.y[rows])
        for role, rows in zip(sizes, indices, strict=True)
    }
    if data.x_test is not None:
        roles["test"] = Examples(x=data.x_test, y=data.y_test)
    splits = Splits(**roles, num_classes=data.num_classes)
    _check_classes(splits, data.name)
    return splits


def _role_sizes(
    data: ImageData, reward: int | None, select: int | None, test: int | None
) -> dict[str, int]:
    """Rows of every role that shares the training rows, ``train`` first."""
    official = data.x_test is not None
    if official and test is not None:
        raise ValueError(f"{data.name} has an official test set, used as it is: leave test unset")
    asked = {"reward": reward, "select": select} | ({} if official else {"test": test})
    total = len(data.y)
    large = official and total >= _LARGE
    sizes = {
        role: size if size is not None else 5_000 if large else round(_FRACTIONS[role] * total)
        for role, size in asked.items()
    }
    sizes = {"train": total - sum(sizes.values())} | sizes
    if min(sizes.values()) < 1:
        raise ValueError(
            f"{data.name} has {total} rows to share, which gives {sizes}: every role needs rows"
        )
    return sizes


def _allocate(
    role_sizes: Int[np.ndarray, " roles"], class_sizes: Int[np.ndarray, " classes"]
) -> Int[np.ndarray, "roles classes"]:
    """Rounds ``role_sizes ⊗ class_sizes / N`` to integers, keeping the sums of rows and columns.

    Every entry is its real value rounded down, plus zero or one. Where the ones go is the
    construction of a 0-1 matrix with given margins by Gale (1957) and Ryser (1957): serve the
    columns in turn, each from the rows that still lack most.
    """
    counts = role_sizes[:, None] * class_sizes // class_sizes.sum()
    lacking = role_sizes - counts.sum(axis=1)
    for index, short in enumerate(class_sizes - counts.sum(axis=0)):
        neediest = np.argsort(-lacking, kind="stable")[:short]
        counts[neediest, index] += 1
        lacking[neediest] -= 1
    return counts


def _draw(
    y: Int[np.ndarray, " n"],
    counts: Int[np.ndarray, "roles classes"],
    rng: np.random.Generator,
) -> list[Int[np.ndarray, " rows"]]:
    """Row numbers of each role, in random order, with ``counts[role, class]`` rows of a class."""
    by_class = [
        np.split(rng.permutation(np.flatnonzero(y == label)), np.cumsum(counts[:-1, label]))
        for label in range(counts.shape[1])
    ]
    return [rng.permutation(np.concatenate(parts)) for parts in zip(*by_class, strict=True)]


def _check_classes(splits: Splits, name: str) -> None:
    for role in ROLES:
        absent = np.setdiff1d(np.arange(splits.num_classes), getattr(splits, role).y)
        if len(absent):
            raise ValueError(
                f"role {role} of {name} has no row of class {', '.join(map(str, absent))}: "
                "give the role more rows, or drop the class from the data"
            )
