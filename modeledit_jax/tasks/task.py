"""A task: what should change in a network, what must not, and how both are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from modeledit_jax import struct
from modeledit_jax.edits.site import get_leaves, match_paths
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.tasks.network import (
    check_examples_finite,
    check_spread,
    check_subject,
    sample_outputs,
)
from modeledit_jax.tasks.reward import Reward
from modeledit_jax.types import Field, Leaves

ROLES = ("train", "reward", "select", "test")


@struct.dataclass
class EvaluationSets:
    """One batch of examples and named, weighted subsets of it.

    All sets of a role share one batch, so that one forward pass serves them all, and tasks whose
    sets differ in size (the classes of a data set) keep equal shapes and stack under `jax.vmap`.
    """

    x: Field  # [N, ...] float32, or int32 token ids
    targets: Field  # [N] int32 labels, or a pytree of arrays that holds them as `label`
    weights: Field  # {set name: [N] float32}, or [T, N]: one request after another

    @property
    def label(self) -> Field:
        """The labels, ``[N]`` int32."""
        return self.targets.label if hasattr(self.targets, "label") else self.targets


@dataclass(frozen=True)
class Task:
    """An editing problem.

    Making one checks its network and examples (`tasks.network`), so that no budget is spent on what
    cannot be edited: ValueError for weights, examples or outputs that are not finite, an ``apply``
    that fails, or one whose outputs depend on the other examples of a batch.

    Attributes:
      name: short, unique within an experiment, e.g. ``"forget-7"``.
      subject: the network to edit.
      roles: evaluation sets for ``train`` (what the subject was trained on), ``reward`` (what an
        editor may query), ``select`` (for choosing hyper-parameters) and ``test`` (for the final
        report alone). An environment holds the ``reward`` role and no other.
      reward: scores the edited network on the ``reward`` role.
      site: exact paths of the leaves that may be edited.
    """

    name: str
    subject: Subject
    roles: Mapping[str, EvaluationSets]
    reward: Reward
    site: tuple[str, ...]

    def __post_init__(self) -> None:
        check_subject(self.subject)
        check_examples_finite(self.roles)
        check_spread(self.leaves)
        if "reward" in self.roles:
            sample_outputs(self.subject, self.roles["reward"].x)

    @property
    def leaves(self) -> Leaves:
        """The unedited leaves of the site."""
        return get_leaves(self.subject.params, self.site)

    @property
    def requests(self) -> int:
        """``T``, how many requests come one after another; 1 where the sets never change."""
        shapes = [np.shape(weight) for weight in self.roles["reward"].weights.values()]
        return max(shape[0] if len(shape) > 1 else 1 for shape in shapes)


def find_site(subject: Subject, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the exact paths of a site and checks that they can be edited.

    Raises:
      ValueError: a pattern matches nothing, or a matched leaf is a scalar or no float array.
    """
    paths = match_paths(subject.params, patterns)
    for path, leaf in get_leaves(subject.params, paths).items():
        dtype = getattr(leaf, "dtype", type(leaf).__name__)
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(dtype, jnp.floating) or leaf.ndim == 0:
            raise ValueError(
                f"the leaf {path!r} has dtype {dtype} and shape {np.shape(leaf)}; "
                "only float arrays with at least one axis can be edited: choose another site"
            )
    return paths
