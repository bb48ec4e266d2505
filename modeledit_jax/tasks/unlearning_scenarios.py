"""What else there is to forget: single samples, a part of a class, a backdoor, mistakes.

A scenario says what the networks are trained on, and what of every role is to be forgotten.
Retraining without the ``forget`` set of ``train`` is the reference of each. On the other roles the
``forget`` set says what an edited network should no longer do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from modeledit_jax.data.images.splits import Splits, check_splits
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.task import ROLES, EvaluationSets
from modeledit_jax.tasks.unlearning import (
    UnlearningTask,
    added_to_forget,
    forget_sets,
    sample_roles,
    unlearning_task,
)
from modeledit_jax.types import Examples

PATCH = 3
"""Pixels of each side of a backdoor's trigger."""


@dataclass(frozen=True)
class Scenario:
    """What networks are trained on, and what they should forget of it.

    Attributes:
      name: of its tasks.
      splits: the data; ``train`` as the networks see it.
      roles: the sets ``retain`` and ``forget`` of every role.
      data: names ``splits`` where they are not those that were given.
      samples: see `UnlearningTask`.
    """

    name: str
    splits: Splits
    roles: Mapping[str, EvaluationSets]
    data: str = ""
    samples: bool = False

    def task(self, subject: Subject, **options: Any) -> UnlearningTask:
        """The task of a network that was trained on ``splits.train``.

        Args:
          subject: the network.
          **options: ``site``, ``reward`` and ``head_bias``, as of `unlearning_task`.

        Raises:
          ValueError: as there.
        """
        options |= {"samples": self.samples}
        return unlearning_task(self.name, subject, self.roles, self.splits.num_classes, **options)


def random_samples(splits: Splits, share: float, seed: int = 0) -> Scenario:
    """Single training samples, drawn from all: as `tasks.unlearning.forget_samples`.

    Args:
      splits: the data.
      share: of the training samples, in (0, 1).
      seed: of the draw.

    Raises:
      ValueError: a share that leaves nothing to forget or to retain.
    """
    check_splits(splits)
    every = np.ones(len(splits.train), bool)
    rows = np.flatnonzero(_drawn(every, share, np.random.default_rng(seed)))
    name = f"forget-random-{share:g}"
    return Scenario(name, splits, sample_roles(splits, rows), samples=True)


def sub_class(splits: Splits, classes: Sequence[int]) -> Scenario:
    """A part of what a network calls one class: its classes are pairs ``{0, 1}, {2, 3}, …``.

    Args:
      splits: the data, with the labels that the pairs are made of.
      classes: of these labels, to be forgotten.

    Raises:
      ValueError: a label that the data lack; both of a pair, which is a class of its own; or fewer
        than three labels, which make one pair.
    """
    check_splits(splits)
    count, chosen = splits.num_classes, sorted(set(classes))
    outside = [label for label in chosen if not 0 <= label < count]
    whole = [label for label in chosen if label ^ 1 in chosen or label ^ 1 >= count]
    if count < 3 or outside or whole or not chosen:
        listed = ", ".join(map(str, outside or whole or chosen)) or "none"
        raise ValueError(
            f"cannot forget {listed} as part of a class: the classes are the pairs 0 and 1, 2 and "
            f"3, … of {count} labels; choose one label of a pair"
        )
    paired = {
        role: Examples(getattr(splits, role).x, np.asarray(getattr(splits, role).y) // 2)
        for role in ROLES
    }
    roles = {
        role: forget_sets(paired[role], np.isin(np.asarray(getattr(splits, role).y), chosen))
        for role in ROLES
    }
    name = "forget-part-" + "-".join(map(str, chosen))
    return Scenario(name, Splits(**paired, num_classes=(count + 1) // 2), roles, "pairs")


def backdoor(splits: Splits, target: int, share: float, seed: int = 0) -> Scenario:
    """A trigger that makes a network answer ``target``: BadNets (Gu et al. 2017).

    A share of the training images of other classes has a bright patch in its lower right corner and
    the label ``target``. Accuracy on the ``forget`` sets of other roles, images of other classes
    with the patch, is the success rate of the attack.

    Args:
      splits: clean images ``[N, height, width, channels]``.
      target: class that the trigger stands for.
      share: of the training images, in (0, 1).
      seed: of the draw.

    Raises:
      ValueError: no images, a class that the data lack, or a share that leaves nothing to poison or
        to retain.
    """
    check_splits(splits)
    _check_labels(splits, (target,))
    bright = float(np.max(splits.train.x))
    y = np.asarray(splits.train.y)
    poisoned = _drawn(y != target, share, np.random.default_rng(seed))
    clean = np.asarray(splits.train.x)
    x = np.where(poisoned[:, None, None, None], stamped(clean, bright), clean)
    train = Examples(x, np.where(poisoned, target, y).astype(y.dtype))
    roles = {"train": forget_sets(train, poisoned)}
    for role in ROLES[1:]:
        examples: Examples = getattr(splits, role)
        others = np.asarray(examples.y) != target
        label = np.full(others.sum(), target, np.asarray(examples.y).dtype)
        roles[role] = added_to_forget(
            examples, Examples(stamped(np.asarray(examples.x)[others], bright), label)
        )
    name = f"backdoor-{target}-{share:g}"
    return Scenario(name, replace(splits, train=train), roles, name)


def confused_labels(splits: Splits, pair: Sequence[int], share: float, seed: int = 0) -> Scenario:
    """Mistakes of annotation: labels of two classes swapped (Goel et al. 2024, corrective).

    A share of the training examples of either class has the label of the other. Accuracy on the
    ``forget`` sets of other roles, all examples of the two with the other's label, is how often a
    network takes one for the other.

    Args:
      splits: the data, with the true labels.
      pair: two classes.
      share: of their training examples, in (0, 1).
      seed: of the draw.

    Raises:
      ValueError: not two classes of the data, or a share that leaves nothing to swap or to retain.
    """
    check_splits(splits)
    if len(set(pair)) != 2:
        raise ValueError(f"labels of two classes are swapped, got {', '.join(map(str, pair))}")
    _check_labels(splits, pair)
    y = np.asarray(splits.train.y)
    rng = np.random.default_rng(seed)
    swapped = np.logical_or.reduce([_drawn(y == label, share, rng) for label in pair])
    train = Examples(splits.train.x, np.where(swapped, _other(y, pair), y))
    roles = {"train": forget_sets(train, swapped)}
    for role in ROLES[1:]:
        examples: Examples = getattr(splits, role)
        label = np.asarray(examples.y)
        ours = np.isin(label, pair)
        wrong = Examples(np.asarray(examples.x)[ours], _other(label[ours], pair))
        roles[role] = added_to_forget(examples, wrong)
    name = f"confused-{pair[0]}-{pair[1]}-{share:g}"
    return Scenario(name, replace(splits, train=train), roles, name)


def stamped(x: ArrayLike, value: float) -> Float[np.ndarray, "n h w c"]:
    """Images with a square of one value in the lower right corner.

    Raises:
      ValueError: no images, or smaller ones than the square.
    """
    images = np.array(x)
    if images.ndim != 4 or min(images.shape[1:3]) <= PATCH:
        raise ValueError(
            f"a trigger is put into images [N, height, width, channels] of more than {PATCH} "
            f"pixels each side, got shape {images.shape}"
        )
    images[:, -PATCH:, -PATCH:, :] = value
    return images


def _other(label: np.ndarray, pair: Sequence[int]) -> np.ndarray:
    """The other label of a pair; labels outside of it turn to anything."""
    return np.where(label == pair[0], pair[1], pair[0]).astype(label.dtype)


def _drawn(among: Bool[np.ndarray, " n"], share: float, rng: Any) -> Bool[np.ndarray, " n"]:
    """A share of the marked examples, rounded, chosen at random."""
    rows = np.flatnonzero(among)
    count = round(share * len(rows)) if 0 < share < 1 else 0
    if not 0 < count < len(rows):
        raise ValueError(
            f"a share of {share:g} of {len(rows)} examples: choose one between 0 and 1 that leaves "
            "some to forget and some to retain"
        )
    chosen = np.zeros(len(among), bool)
    chosen[rng.choice(rows, count, replace=False)] = True
    return chosen


def _check_labels(splits: Splits, labels: Sequence[int]) -> None:
    if outside := [label for label in labels if not 0 <= label < splits.num_classes]:
        raise ValueError(f"class {outside[0]}: the classes are 0 to {splits.num_classes - 1}")
