"""Edited networks in one table: what they do to the test examples, and what they have cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from modeledit_jax.editors.editor import EditResult
from modeledit_jax.edits.site import get_leaves
from modeledit_jax.imports import executed_at_first_use
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import debiasing_metrics, evaluated_roles
from modeledit_jax.tasks.outputs import edit_metrics, role_outputs
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning_metrics import set_accuracies
from modeledit_jax.types import Params

with executed_at_first_use("pandas"):
    import pandas as pd


def table(tasks: Sequence[Task], results: Mapping[str, Sequence[EditResult]]) -> "pd.DataFrame":
    """Measures edited networks on the ``test`` role, which no editor has seen.

    Args:
      tasks: ``B``.
      results: of each method by name, one for every task (`edit_many`).

    Returns:
      A frame of numbers, one row for every method and task, which are its index: accuracy on every
      named set (for tasks about comments the metrics of `debiasing_metrics`), relative size and
      rank of the edit, and its cost. The unedited networks come first, as ``original``.

    Raises:
      ValueError: a method without one result per task.
    """
    for method, found in results.items():
        if len(found) != len(tasks):
            raise ValueError(f"{method} has {len(found)} results for {len(tasks)} tasks")
    unedited = [EditResult(task.subject.params) for task in tasks]
    rows = [
        {"method": method, "task": task.name, "number": number, **_row(task, result)}
        for method, found in {"original": unedited, **results}.items()
        for number, (task, result) in enumerate(zip(tasks, found, strict=True))
    ]
    return pd.DataFrame(rows).set_index(["method", "task", "number"])


def _row(task: Task, result: EditResult) -> dict[str, float]:
    edited = get_leaves(result.params, task.site)
    return {
        **_test_metrics(task, result.params),
        **edit_metrics(task.leaves, edited),
        **asdict(result.cost),
    }


def _test_metrics(task: Task, params: Params) -> dict[str, float]:
    if isinstance(task, DebiasingTask):
        roles = evaluated_roles(task)
        original = role_outputs(task, task.subject.params, roles)
        return debiasing_metrics(task, role_outputs(task, params, roles), original)
    return set_accuracies(task, role_outputs(task, params, ("test",)))
