"""Bias mitigation: an identity term must not decide whether a comment is called toxic.

Every role holds two sets. ``comments`` are plain comments, on which the classifier must stay as
good as it is. ``counterfactuals`` come in blocks of comments that differ in the identity term and
in nothing else, on which its scores must not differ. Protocol and default reward follow
Dixon et al. 2018 and Borkan et al. 2019 with the safeguards the reward needs against being gamed
(`debiasing_reward`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax import struct
from modeledit_jax.data.comments.comments import CommentData, Comments
from modeledit_jax.subjects.subject import Subject, predict
from modeledit_jax.tasks.debiasing_data import check_comment_data
from modeledit_jax.tasks.debiasing_reward import debiasing_reward
from modeledit_jax.tasks.network import check_logits, check_subject, sample_outputs
from modeledit_jax.tasks.reward import Reward, RewardFunction, as_reward
from modeledit_jax.tasks.task import ROLES, EvaluationSets, Task, find_site
from modeledit_jax.types import Field

SETS = ("comments", "counterfactuals")
ADDED = "added/"
"""Before the names of roles that hold comments to retrain with."""


@struct.dataclass
class CommentTargets:
    """What is known of ``N`` comments; rows of ``comments`` first, then ``counterfactuals``."""

    label: Field  # [N] int32, 1 = toxic
    groups: Field  # [N, I] float32, 1 where the comment mentions the identity term
    blocks: Field  # [K, V] int32 rows that differ in the identity term alone
    kind: Field  # [N] int32, the kind of context a counterfactual is of; 0 where all are alike


@dataclass(frozen=True)
class DebiasingTask(Task):
    """A `Task` about comments.

    Beside the four roles, ``roles`` holds further test suites by name, and comments to retrain with
    under names that begin with `ADDED`; these, ``train`` and suites have one of the two sets alone.

    Attributes:
      identities: the ``I`` terms, in the order of the columns of ``groups``.
      held_out: of each term, whether ``reward`` and ``select`` lack counterfactuals with it.
    """

    identities: tuple[str, ...] = ()
    held_out: tuple[bool, ...] = ()


def mitigate_bias(
    subject: Subject,
    data: CommentData,
    *,
    site: str | Sequence[str] = "fc2/kernel",
    reward: Reward | RewardFunction | str = "fairness",
    weights: Mapping[str, float] | None = None,
    name: str = "debias",
) -> DebiasingTask:
    """The task to make a toxicity classifier indifferent to identity terms.

    Args:
      subject: one logit per comment, positive for toxic.
      data: comments in four roles, and their counterfactuals.
      site: pattern(s) of the leaves that may be edited.
      reward: a kind of `debiasing_reward`, a `Reward`, or a function ``(sets, edit) -> score`` of
        yours, with the sets ``"comments"`` and ``"counterfactuals"``.
      weights: of parts of a kind of reward, in place of its own.
      name: of the task.

    Raises:
      ValueError: a role lacks a class or counterfactuals, arrays of comments that do not fit, a
        site that matches nothing, or a network that `check_logits` or `Task` refuse.
    """
    check_subject(subject)
    check_comment_data(data)
    roles = _evaluation_sets(_Identity(data))
    sampled = sample_outputs(subject, roles["reward"].x)
    if sampled is not None:
        check_logits(sampled, 2)
        if sampled.shape[1] != 1:
            raise ValueError(
                f"the network has {sampled.shape[1]} outputs: a toxicity classifier gives one "
                "logit [N, 1], positive for toxic"
            )
    if isinstance(reward, str):
        outputs, own = _outputs(subject, roles["reward"]), roles["reward"]
        reward = debiasing_reward(outputs, own.targets, own.weights, reward, weights)
    elif weights:
        raise ValueError("weights are those of a kind of reward: leave them out with one of yours")
    return DebiasingTask(
        name=name,
        subject=subject,
        roles=roles,
        reward=as_reward(reward, minimum=-10.0),
        site=find_site(subject, site),
        identities=data.identities,
        held_out=data.held_out,
    )


def comment_targets(task: Task, role: str) -> tuple[EvaluationSets, CommentTargets]:
    """A role of a task about comments and its targets as NumPy arrays.

    Raises:
      ValueError: the task is not about comments.
    """
    sets = task.roles[role]
    if not isinstance(sets.targets, CommentTargets):
        raise ValueError(
            f"the task {task.name!r} has no comments with identity terms: build it with "
            "mitigate_bias"
        )
    return sets, jax.tree.map(np.asarray, sets.targets)


def members(sets: EvaluationSets, name: str) -> np.ndarray:
    """Rows of one set of a role."""
    return np.flatnonzero(np.asarray(sets.weights[name]))


class _Identity:
    """An object as a key: equal to itself alone, and never hashed by its content."""

    def __init__(self, own: CommentData):
        self.own = own

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.own is self.own

    def __hash__(self) -> int:
        return id(self.own)


@lru_cache(maxsize=1)
def _evaluation_sets(key: _Identity) -> dict[str, EvaluationSets]:
    """Roles and suites; tasks that are made on the same data in turn share their arrays."""
    data = key.own
    roles = {role: _sets(data.roles[role], data.counterfactuals.get(role)) for role in ROLES}
    roles |= {suite: _sets(None, comments) for suite, comments in data.suites.items()}
    added = {f"{ADDED}{name}": _sets(comments, None) for name, comments in data.added.items()}
    return roles | added


def _sets(comments: Comments | None, counterfactuals: Comments | None) -> EvaluationSets:
    """Joins the two sets to one batch; blocks then point into it."""
    parts = {
        name: part
        for name, part in zip(SETS, (comments, counterfactuals), strict=True)
        if part is not None
    }
    present = list(parts.values())
    sizes = [len(part) for part in present]
    first = sizes[0] if comments is not None and counterfactuals is not None else 0
    targets = CommentTargets(
        label=np.concatenate([part.label for part in present]),
        groups=np.concatenate([part.groups for part in present]).astype(np.float32, copy=False),
        blocks=np.asarray(present[-1].blocks) + np.int32(first),
        kind=np.concatenate([_kind(part) for part in present]),
    )
    owner = np.repeat(np.arange(len(present)), sizes)
    weights = {name: (owner == i).astype(np.float32) for i, name in enumerate(parts)}
    return EvaluationSets(np.concatenate([part.tokens for part in present]), targets, weights)


def _kind(comments: Comments) -> np.ndarray:
    if comments.kind is None:
        return np.zeros(len(comments), np.int32)
    return np.asarray(comments.kind, np.int32)


def _outputs(subject: Subject, sets: EvaluationSets) -> jax.Array:
    run = jax.jit(predict, static_argnums=(0, 3))
    return run(subject.apply, subject.params, jnp.asarray(sets.x))
