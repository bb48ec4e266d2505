"""What a task of bias mitigation needs of its comments, checked before anything is made of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from modeledit_jax.data.arrays import check_labels
from modeledit_jax.data.comments.comments import CommentData, Comments
from modeledit_jax.tasks.task import ROLES

_KINDS = ("roles", "counterfactuals", "suites", "added")


def check_comment_data(data: CommentData) -> None:
    """Raises ValueError unless comments are whole: arrays that fit, both labels in every role.

    Args:
      data: what the user has given.
    """
    needed = ("name", "identities", "held_out", *_KINDS)
    if missing := [name for name in needed if not hasattr(data, name)]:
        raise ValueError(
            f"data is a {type(data).__name__} without {', '.join(missing)}: pass a CommentData"
        )
    if missing := [role for role in ROLES if role not in data.roles]:
        raise ValueError(f"{data.name} lacks the role {', '.join(missing)}: give it comments")
    if len(data.held_out) != len(data.identities):
        raise ValueError(
            f"held_out of {data.name} has {len(data.held_out)} entries for "
            f"{len(data.identities)} identities: give one for each"
        )
    for kind in _KINDS:
        for role, comments in getattr(data, kind).items():
            check_comments(comments, len(data.identities), f"{kind} {role} of {data.name}")
    for named in (data.roles, data.counterfactuals):
        _check_both_labels(named, data.name)
    for role in ("reward", "select", "test"):
        if role not in data.counterfactuals or data.counterfactuals[role].blocks.size == 0:
            raise ValueError(
                f"{data.name} has no counterfactuals for the role {role}: swap identity terms in "
                "comments of that role (data.comments.swap_identities) or fill templates"
            )


def check_comments(comments: Comments, identities: int, name: str) -> None:
    """Raises ValueError unless tokens, labels, groups and blocks are those of ``N`` comments.

    Args:
      comments: what the user has given.
      identities: ``I``, the number of terms.
      name: begins the message.
    """
    fields = ("tokens", "label", "groups", "blocks")
    arrays = {field: getattr(comments, field, None) for field in fields}
    if missing := [field for field, array in arrays.items() if not hasattr(array, "shape")]:
        raise ValueError(
            f"{name} is a {type(comments).__name__} without arrays {', '.join(missing)}: pass "
            "Comments(tokens, label, groups, blocks)"
        )
    tokens, label, groups, blocks = (np.asarray(array) for array in arrays.values())
    check_labels(label.astype(int) if label.dtype == bool else label, 2, f"the label of {name}")
    size = len(label)
    if (kind := getattr(comments, "kind", None)) is not None:
        _check_whole(np.asarray(kind), 1, f"the kind of {name}")
        if len(kind) != size:
            raise ValueError(f"{name} has {len(kind)} kinds and {size} labels: give one for each")
    if tokens.dtype.kind != "f" or tokens.ndim != 2:  # features are checked by the task
        _check_whole(tokens, 2, f"the tokens of {name}")
    _check_whole(blocks, 2, f"the blocks of {name}")
    if len(tokens) != size or groups.shape != (size, identities):
        raise ValueError(
            f"{name} has tokens {tokens.shape}, groups {groups.shape} and {size} labels; they must "
            f"be [N, L], [N, {identities}] (one column for each identity) and [N]"
        )
    if groups.dtype.kind not in "iubf" or not ((groups == 0) | (groups == 1)).all():
        raise ValueError(
            f"the groups of {name} must be 1 where a comment mentions the term, else 0: e.g. "
            "(shares >= 0.5).astype('float32')"
        )
    if blocks.size and not 0 <= blocks.min() <= blocks.max() < size:
        raise ValueError(
            f"the blocks of {name} name rows {blocks.min()} to {blocks.max()} of {size}: they must "
            "be rows of the same comments"
        )


def _check_whole(array: np.ndarray, axes: int, name: str) -> None:
    if array.ndim != axes or array.dtype.kind not in "iu" or (array.size and array.min() < 0):
        least = f" and values from {array.min()}" if array.size and array.dtype.kind in "iu" else ""
        raise ValueError(
            f"{name} must be integers from 0 with {axes} axes, got shape {array.shape}, dtype "
            f"{array.dtype}{least}"
        )


def _check_both_labels(named: Mapping[str, Any], name: str) -> None:
    for role, comments in named.items():
        if len(np.unique(comments.label)) < 2:
            raise ValueError(
                f"the role {role} of {name} lacks toxic or harmless comments among its "
                f"{len(comments)}: give it more rows"
            )
