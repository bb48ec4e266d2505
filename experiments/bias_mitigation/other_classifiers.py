"""Edits of a language model under classifiers that they were not made with."""

from collections.abc import Sequence

from experiments.bias_mitigation.config import LANGUAGE_MODEL
from experiments.bias_mitigation.real import RealSetup
from experiments.common.methods import Evaluation, Result
from modeledit_jax.edits.site import set_leaves

SUFFIX = "other-classifier"
"""Of the name of a method whose edits are judged so."""


def under_other_classifiers(
    setup: RealSetup, results: Sequence[Result], evaluation: Evaluation
) -> list[Result]:
    """Each edit that lies in the language model alone, judged under the next seed's classifier.

    Args:
      setup: folds and networks; with a single seed there is no other classifier.
      results: of all methods.
      evaluation: of results.
    """
    if len(setup.seeds) < 2:
        return []
    return [_result(setup, result, evaluation) for result in results if _of_model_alone(result)]


def _of_model_alone(result: Result) -> bool:
    edited = {path for leaves in result.leaves or () for path in leaves}
    return bool(edited) and all(path.startswith(LANGUAGE_MODEL) for path in edited)


def _result(setup: RealSetup, result: Result, evaluation: Evaluation) -> Result:
    assert result.leaves is not None  # `_of_model_alone`
    number, tasks = len(setup.seeds), setup.tasks
    outputs = []
    for index, task in enumerate(tasks):
        fold, place = divmod(index, number)
        before = fold * number + (place - 1) % number  # made with the classifier of this task
        params = set_leaves(task.subject.params, dict(result.leaves[before]))
        outputs.append(evaluation.outputs(task, params))
    return Result(f"{result.method}-{SUFFIX}", outputs, result.costs)
