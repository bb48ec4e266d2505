"""One call for every editor: ``editor.edit(task, key)``.

An editor is a frozen dataclass of its settings. Whatever it needs beside the task, a budget of
reward evaluations for instance, is one of them.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from modeledit_jax.tasks.network import NonFiniteError, check_finite, outputs_are_finite
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Key, Params


@dataclass(frozen=True)
class Cost:
    """What an edit has cost.

    Attributes:
      reward_evaluations: times a candidate network was scored, of all tuning inside the editor.
      gradient_steps: optimizer steps on weights of the subject or of the policy.
      seconds: wall-clock time of the call, with compilation.
    """

    reward_evaluations: int = 0
    gradient_steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class EditResult:
    """An edited network, of finite weights: ValueError for others.

    Attributes:
      params: the whole parameter pytree, edited.
      cost: see `Cost`.
      trace: what the editor recorded on its way, or None.
    """

    params: Params
    cost: Cost = Cost()
    trace: Any = None

    def __post_init__(self) -> None:
        check_finite(self.params, "the edited network", _CURE)


_CURE = "lower the editor's step size, spread or size of the edit"


def checked(task: Task, result: EditResult) -> EditResult:
    """The result of an editor, if the edited network's outputs are finite.

    A few examples of the ``reward`` role are looked at, by a program that the task has compiled.

    Raises:
      ValueError: they are not, the editor has returned no `EditResult`, or the network does not
        take what it has returned.
    """
    if not isinstance(result, EditResult):
        raise ValueError(
            f"the editor returned a {type(result).__name__} for the task {task.name!r}: return "
            "EditResult(params)"
        )
    unedited, edited = task.subject.params, result.params
    shapes, edited_shapes = (jax.tree.map(np.shape, tree) for tree in (unedited, edited))
    if "reward" not in task.roles:
        return result
    x = task.roles["reward"].x
    if shapes != edited_shapes:
        _check_applies(task, edited, x)
    elif not outputs_are_finite(task.subject, edited, x):
        raise NonFiniteError(
            f"the outputs of the network edited for the task {task.name!r} are not finite: {_CURE}"
        )
    return result


def _check_applies(task: Task, params: Params, x: Any) -> None:
    """Raises ValueError unless the network takes parameters of other shapes than its own."""
    try:
        jax.eval_shape(task.subject.apply, params, x[:1])
    except Exception as error:  # whatever the user's network raises
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the network of the task {task.name!r} does not take what the editor has returned "
            f"({reason}): return all of its parameters, in their shapes"
        ) from error


@runtime_checkable
class Editor(Protocol):
    """Anything that edits a network for a task."""

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network.

        Raises:
          ValueError: the editor does not fit the task; the message says why in one line.
        """
        ...
