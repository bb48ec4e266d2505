"""One request after another: an editor edits the network that it has left behind."""

import time
from dataclasses import dataclass, replace

import jax
import numpy as np

from modeledit_jax.editors.editor import Cost, Editor, EditResult
from modeledit_jax.tasks.task import EvaluationSets, Task
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.types import Key


@dataclass(frozen=True)
class InTurn:
    """Forgets the classes of a task one after another, with an editor that forgets at once.

    At every request the ``forget`` set holds the classes asked for so far: what was forgotten has
    to stay forgotten. Costs add up.

    Attributes:
      editor: of each request; its settings, a budget for instance, are those of one.
      order: of the classes.
    """

    editor: Editor
    order: tuple[int, ...]

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the network after the last request; ``trace`` holds the networks after each.

        Raises:
          ValueError: the order is not that of the classes that the task forgets, or the editor
            refuses a request.
        """
        classes = task.forget_classes if isinstance(task, UnlearningTask) else ()
        if not isinstance(task, UnlearningTask) or sorted(self.order) != sorted(classes):
            raise ValueError(
                f"the task {task.name!r} forgets the classes {classes}, the order is {self.order}: "
                "name each of its classes once"
            )
        begin, subject, networks, costs = time.perf_counter(), task.subject, [], []
        for number, one in enumerate(jax.random.split(key, len(self.order)), start=1):
            asked = self.order[:number]
            roles = {role: _with_forget(sets, asked) for role, sets in task.roles.items()}
            request = replace(task, subject=subject, roles=roles, forget_classes=asked)
            found = self.editor.edit(request, one)
            subject = replace(subject, params=found.params)
            networks.append(found.params)
            costs.append(found.cost)
        cost = Cost(
            sum(one.reward_evaluations for one in costs),
            sum(one.gradient_steps for one in costs),
            time.perf_counter() - begin,
        )
        return EditResult(subject.params, cost, networks)


def _with_forget(sets: EvaluationSets, classes: tuple[int, ...]) -> EvaluationSets:
    forget = np.isin(np.asarray(sets.label), classes).astype(np.float32)
    return replace(sets, weights={"retain": 1 - forget, "forget": forget})
