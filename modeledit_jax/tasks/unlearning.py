"""Machine unlearning: forget classes, or single training samples, and keep everything else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Int

from modeledit_jax.data.arrays import row_numbers, whole_numbers
from modeledit_jax.data.images.splits import Splits, check_splits
from modeledit_jax.edits.site import get_leaves, match_paths
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.network import check_logits, check_subject, sample_outputs
from modeledit_jax.tasks.reward import (
    EditedWeights,
    Reward,
    RewardFunction,
    Sets,
    WeightedSum,
    as_reward,
)
from modeledit_jax.tasks.task import ROLES, EvaluationSets, Task, find_site
from modeledit_jax.types import Array, Examples


@dataclass(frozen=True)
class UnlearningTask(Task):
    """A `Task` to forget.

    Attributes:
      forget_classes: the classes to forget, where the task is to forget classes.
      head_bias: path of the output layer's bias, for editors that act on the outputs.
      samples: whether single training samples are forgotten, of which held-out roles have no others
        of their kind.
    """

    forget_classes: tuple[int, ...] = ()
    head_bias: str | None = None
    samples: bool = False


LARGEST_EDIT_SIZE = 10.0
"""Relative edit size beyond which the penalty of `unlearning_reward` grows no further, so that the
reward has a minimum; useful edits are far smaller."""


def _retained_accuracy(sets: Sets, edit: EditedWeights) -> Array:
    return sets["retain"].accuracy()


def _lost_accuracy(sets: Sets, edit: EditedWeights) -> Array:
    return 1.0 - sets["forget"].accuracy()


def _retained_probability(sets: Sets, edit: EditedWeights) -> Array:
    return sets["retain"].probability()


def _lost_probability(sets: Sets, edit: EditedWeights) -> Array:
    return 1.0 - sets["forget"].probability()


def _as_unseen(sets: Sets, edit: EditedWeights) -> Array:
    gap = sets["forget"].probability() - sets["retain"].probability()
    return 1.0 - jnp.abs(gap)


def _edit_size(sets: Sets, edit: EditedWeights) -> Array:
    return -jnp.minimum(edit.size(), LARGEST_EDIT_SIZE)


REWARD_KINDS = {
    "accuracy": (_retained_accuracy, _lost_accuracy),
    "soft": (_retained_probability, _lost_probability),
    "unseen": (_retained_probability, _as_unseen),
}


def unlearning_reward(
    kind: str = "soft", *, utility: float = 1.0, forgetting: float = 1.0, edit_size: float = 0.0
) -> Reward:
    """Utility preservation plus the editing term: ``utility·U + forgetting·F − edit_size·S``.

    Args:
      kind: ``"accuracy"``: U is the accuracy on ``retain``, F one minus the accuracy on ``forget``
        (Malik 2026). ``"soft"``: the mean probability of the true class in place of accuracy,
        which is differentiable, tells apart edits of equal accuracy, and generalizes better.
        ``"unseen"``: as soft, with F one minus the distance of the mean probabilities on ``forget``
        and on ``retain``: for single samples, which a network that never saw them classifies as
        well as the held-out ones of ``retain``.
      utility, forgetting: weights of U and F, at least 0.
      edit_size: weight of S, the relative size of the edit up to `LARGEST_EDIT_SIZE`, at least 0;
        0 leaves the part out.

    Returns:
      A reward whose minimum, the score of a network with non-finite outputs, is the least it can
      give: ``-edit_size · LARGEST_EDIT_SIZE``, 0 without a penalty.

    Raises:
      ValueError: unknown kind, or a negative or non-finite weight.
    """
    if kind not in REWARD_KINDS:
        raise ValueError(f"unknown reward {kind!r}; choose one of {', '.join(REWARD_KINDS)}")
    weights = {"utility": utility, "forgetting": forgetting, "edit_size": edit_size}
    for name, weight in weights.items():
        if not 0.0 <= weight < math.inf:
            raise ValueError(f"the weight {name} must be finite and at least 0, got {weight}")
    keep, forget = REWARD_KINDS[kind]
    parts = [("utility", keep), ("forgetting", forget)]
    if edit_size:
        parts.append(("edit_size", _edit_size))
    return WeightedSum(
        minimum=jnp.float32(0.0 - edit_size * LARGEST_EDIT_SIZE),
        weights={name: jnp.float32(weights[name]) for name, _ in parts},
        parts=tuple(parts),
    )


def forget_classes(
    subject: Subject,
    splits: Splits,
    classes: int | Sequence[int] | ArrayLike,
    *,
    site: str | Sequence[str] = "fc2/kernel",
    reward: Reward | RewardFunction | None = None,
    head_bias: str | None = "head/bias",
) -> UnlearningTask:
    """The task to forget one class or several.

    Args:
      subject: the trained classifier.
      splits: its data in four roles.
      classes: class index or indices, integers also of NumPy's or JAX's.
      site: pattern(s) of the leaves that may be edited.
      reward: a reward or a function ``(sets, edit) -> score`` of yours, with the sets ``"retain"``
        and ``"forget"``. Default: `unlearning_reward`.
      head_bias: pattern of the output bias, which the logit-mask reference acts on; None if the
        network has none.

    Raises:
      ValueError: a class out of range, none or all of them, no integers, or a role without examples
        of a class or of the others; a site or ``head_bias`` that matches nothing; data or a network
        that `check_splits`, `check_logits` or `Task` refuse.
    """
    check_splits(splits)
    chosen = tuple(sorted(set(whole_numbers(classes, "classes"))))
    outside = [c for c in chosen if not 0 <= c < splits.num_classes]
    if outside or not 0 < len(chosen) < splits.num_classes:
        raise ValueError(
            f"cannot forget class {', '.join(map(str, outside or chosen)) or 'none'}: choose at "
            f"least one and not all of the classes 0 to {splits.num_classes - 1}"
        )

    def sets(role: str) -> EvaluationSets:
        examples: Examples = getattr(splits, role)
        label = np.asarray(examples.y)
        forget = np.isin(label, chosen)
        if absent := [c for c in chosen if not np.any(label == c)]:
            raise ValueError(
                f"the role {role} has no example of class {', '.join(map(str, absent))}: give it "
                "some, or forget other classes"
            )
        if forget.all():
            raise ValueError(f"the role {role} has no example of a class to retain: give it some")
        return forget_sets(examples, forget)

    roles = {role: sets(role) for role in ROLES}
    name = "forget-" + "-".join(map(str, chosen))
    return unlearning_task(
        name, subject, roles, splits.num_classes, classes=chosen, site=site, reward=reward,
        head_bias=head_bias,
    )  # fmt: skip


def forget_in_turn(
    subject: Subject,
    splits: Splits,
    classes: Sequence[int] | ArrayLike,
    *,
    site: str | Sequence[str] = "fc2/kernel",
    reward: Reward | RewardFunction | None = None,
    head_bias: str | None = "head/bias",
) -> UnlearningTask:
    """The task to forget one class after another, of as many steps as there are classes.

    At step ``t`` the ``forget`` set is the classes asked for so far, ``retain`` all others: what
    was forgotten must stay forgotten. Arguments as in `forget_classes`.

    Raises:
      ValueError: as `forget_classes`, or a class is named twice.
    """
    if isinstance(classes, set | frozenset):
        raise ValueError("classes to forget in turn need an order: pass a list, not a set")
    order = whole_numbers(classes, "classes")
    if len(set(order)) != len(order):
        raise ValueError(f"a class can be forgotten once; got {', '.join(map(str, order))}")
    options: dict[str, Any] = {"site": site, "reward": reward, "head_bias": head_bias}
    steps = [
        forget_classes(subject, splits, order[: end + 1], **options)
        for end in range(len(order) or 1)  # of none, the first refuses
    ]
    last = steps[-1]
    roles = {
        role: replace(
            sets,
            weights={
                name: np.stack([step.roles[role].weights[name] for step in steps])
                for name in sets.weights
            },
        )
        for role, sets in last.roles.items()
    }
    return replace(last, name="forget-in-turn-" + "-".join(map(str, order)), roles=roles)


def forget_samples(
    subject: Subject,
    splits: Splits,
    indices: int | Sequence[int] | Sequence[bool] | ArrayLike,
    *,
    site: str | Sequence[str] = "fc2/kernel",
    reward: Reward | RewardFunction | None = None,
    head_bias: str | None = "head/bias",
) -> UnlearningTask:
    """The task to forget single training samples, given by their rows in ``splits.train``.

    The samples are the ``forget`` set of every role (there is no held-out copy of a sample); the
    ``retain`` set is the role's own examples, in ``train`` without the samples.

    Args:
      subject, splits, site, reward, head_bias: as of `forget_classes`.
      indices: row or rows, or a mask: one boolean for each row of ``splits.train``.

    Raises:
      ValueError: no row, one outside the training set, a mask of another length, no integers; or as
        `forget_classes`.
    """
    rows = row_numbers(indices, _rows_of_train(splits), "sample indices", "the training set")
    name = f"forget-{rows.size}-samples"
    return unlearning_task(
        name, subject, sample_roles(splits, rows), splits.num_classes, samples=True, site=site,
        reward=reward, head_bias=head_bias,
    )  # fmt: skip


def _rows_of_train(splits: Splits) -> int:
    check_splits(splits)
    return len(splits.train.y)


def sample_roles(splits: Splits, rows: Int[np.ndarray, " k"]) -> dict[str, EvaluationSets]:
    """The sets of `forget_samples`, of rows of ``splits.train``.

    Raises:
      ValueError: a role without examples.
    """
    x, y = np.asarray(splits.train.x), np.asarray(splits.train.y)

    def sets(role: str) -> EvaluationSets:
        if role == "train":
            return forget_sets(splits.train, np.isin(np.arange(len(y)), rows))
        examples = getattr(splits, role)
        if len(examples.y) == 0:
            raise ValueError(f"the role {role} has no example to retain: give it some")
        return added_to_forget(examples, Examples(x[rows], y[rows]))

    return {role: sets(role) for role in ROLES}


def forget_sets(examples: Examples, forget: Bool[np.ndarray, " n"]) -> EvaluationSets:
    """Examples of which those are to be forgotten that are marked, and the others retained."""
    return EvaluationSets(
        x=examples.x,
        targets=examples.y,
        weights={
            "retain": (~forget).astype(np.float32),
            "forget": forget.astype(np.float32),
        },
    )


def added_to_forget(retain: Examples, forget: Examples) -> EvaluationSets:
    """Examples to retain, and others behind them to forget."""
    x, y = (
        np.concatenate([np.asarray(a), b]) for a, b in ((retain.x, forget.x), (retain.y, forget.y))
    )
    joined = Examples(x, y)
    return forget_sets(joined, np.arange(len(joined)) >= len(retain))


def unlearning_task(
    name: str,
    subject: Subject,
    roles: Mapping[str, EvaluationSets],
    num_classes: int,
    *,
    classes: tuple[int, ...] = (),
    samples: bool = False,
    site: str | Sequence[str] = "fc2/kernel",
    reward: Reward | RewardFunction | None = None,
    head_bias: str | None = "head/bias",
) -> UnlearningTask:
    """The task to forget the set ``forget`` of the roles and to keep their ``retain``.

    Args:
      name: of the task.
      subject: the trained classifier.
      roles: sets of the four roles.
      num_classes: of the labels.
      classes: whole classes that are forgotten; none where it is about something else.
      samples: see `UnlearningTask`.
      site, reward, head_bias: as of `forget_classes`.

    Raises:
      ValueError: as `forget_classes`.
    """
    check_subject(subject)
    outputs = sample_outputs(subject, roles["reward"].x)
    if outputs is not None:
        check_logits(outputs, num_classes)
    bias = None if head_bias is None else _head_bias(subject, head_bias, outputs)
    return UnlearningTask(
        name=name,
        subject=subject,
        roles=roles,
        reward=unlearning_reward() if reward is None else as_reward(reward),
        site=find_site(subject, site),
        forget_classes=classes,
        head_bias=bias,
        samples=samples,
    )


def _head_bias(subject: Subject, pattern: str, outputs: np.ndarray | None) -> str:
    """Path of the output layer's bias: the leaf that matches and has one entry for each output."""
    cure = "pass the path of the output layer's bias, or head_bias=None if there is none"
    try:
        found = get_leaves(subject.params, match_paths(subject.params, pattern, "head_bias"))
    except ValueError as error:
        raise ValueError(f"{error}; {cure}") from error
    shapes = {path: np.shape(leaf) for path, leaf in found.items()}
    fitting = [
        path for path, shape in shapes.items() if outputs is None or shape == outputs[0].shape
    ]
    if len(fitting) == 1 or (fitting and outputs is None):
        return fitting[0]
    matched = ", ".join(f"{path} {shape}" for path, shape in shapes.items())
    raise ValueError(
        f"head_bias {pattern!r} matches {matched}, of which {len(fitting)} have one entry for each "
        f"output: {cure}"
    )
