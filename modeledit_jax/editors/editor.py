"""One call for every editor: ``editor.edit(task, key)``.

An editor is a frozen dataclass of its settings. Whatever it needs beside the task, a budget of
reward evaluations for instance, is one of them.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

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
    """An edited network.

    Attributes:
      params: the whole parameter pytree, edited.
      cost: see `Cost`.
      trace: what the editor recorded on its way, or None.
    """

    params: Params
    cost: Cost = Cost()
    trace: Any = None


@runtime_checkable
class Editor(Protocol):
    """Anything that edits a network for a task."""

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network.

        Raises:
          ValueError: the editor does not fit the task; the message says why in one line.
        """
        ...
