"""The unlearning experiment as a table: a row for every method and task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from experiments.common.methods import Result
from modeledit_jax.evaluation.forgetting import tow
from modeledit_jax.evaluation.targets import first_met, forgotten
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.inner_forgetting import inner_measurements, inner_metrics, make_probes
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.tasks.unlearning_metrics import (
    TEST_METRICS,
    set_accuracies,
    unlearning_metrics,
)


def make_rows(
    tasks: Sequence[UnlearningTask],
    seeds: Sequence[int],
    results: Mapping[str, Result],
    *,
    inside: bool = False,
) -> list[Row]:
    """One row for every method and task; those of searches have curves.

    Args:
      tasks: ``B`` of them.
      seeds: of the network of each task.
      results: by the name of the method; ``original`` and ``retrain`` are among them.
      inside: measure `inner_metrics` too.
    """
    cells = Cells(tasks, seeds, results["original"], results["retrain"])
    inner = inner_numbers(tasks, results) if inside else {}
    return [
        row
        for name, result in results.items()
        for row in method_rows(cells, result, inner.get(name))
    ]


@dataclass(frozen=True)
class Cells:
    """What every row of an experiment needs.

    Attributes:
      tasks: ``B`` of them.
      seeds: of the network of each.
      original: the unedited networks.
      retrain: those retrained without what is to be forgotten.
    """

    tasks: Sequence[UnlearningTask]
    seeds: Sequence[int]
    original: Result
    retrain: Result


def method_rows(
    cells: Cells, result: Result, inner: Sequence[Mapping[str, float]] | None = None
) -> list[Row]:
    """The rows of one method, of every task.

    Args:
      cells: see there.
      result: of the method.
      inner: `inner_metrics` of every task; None: they have not been measured.
    """
    tasks, original, retrain = cells.tasks, cells.original, cells.retrain
    curves = search_curves(result, tasks, retrain)
    needed = evaluations_to_target(result, tasks, original)
    rows = []
    for index, (task, seed) in enumerate(zip(tasks, cells.seeds, strict=True)):
        metrics = unlearning_metrics(
            task, result.outputs[index], original.outputs[index], retrain.outputs[index]
        )
        metrics |= result.edit_metrics(tasks, index)
        if result.evaluations is not None:
            metrics["evaluations_to_target"] = float(needed[index])
        metrics |= inner[index] if inner is not None else {}
        cost = result.costs[index]
        rows.append(Row(result.method, task.name, seed, metrics, cost, curves=curves[index]))
    return rows


def inner_numbers(
    tasks: Sequence[UnlearningTask], results: Mapping[str, Result]
) -> dict[str, list[dict[str, float]]]:
    """`inner_metrics` of every method on every task."""
    probes = list(map(make_probes, tasks))
    measured = {
        name: [
            inner_measurements(task, params, probes=own)
            for task, params, own in zip(tasks, result.params(tasks), probes, strict=True)
        ]
        for name, result in tqdm(results.items(), desc="inside", leave=False)
    }
    retrain = measured["retrain"]
    return {name: list(map(inner_metrics, own, retrain)) for name, own in measured.items()}


def search_curves(
    result: Result, tasks: Sequence[UnlearningTask], retrain: Result
) -> list[dict[str, np.ndarray]]:
    """Numbers on the way of a search, for each task; nothing of what is no search."""
    if result.evaluations is None or result.score is None:
        return [{} for _ in tasks]
    reference = zip(TEST_METRICS, accuracies_on_test(tasks, retrain), strict=True)
    test = dict(zip(TEST_METRICS, (result.curves["forget"], result.curves["retain"]), strict=True))
    closeness = tow(test, {name: values[:, None] for name, values in reference}, TEST_METRICS)
    columns = {"score": result.score, **test, "tow_test": np.asarray(closeness)}
    return [
        {"reward_evaluations": result.evaluations}
        | {name: values[index] for name, values in columns.items()}
        for index in range(len(tasks))
    ]


def evaluations_to_target(
    result: Result, tasks: Sequence[UnlearningTask], original: Result
) -> np.ndarray:
    """Reward evaluations of every task until its edit first meets the target; NaN if never."""
    if result.evaluations is None:
        return np.full(len(tasks), np.nan)
    _, base = accuracies_on_test(tasks, original)
    met = forgotten(result.curves["forget"], result.curves["retain"], base[:, None])
    return first_met(met, result.evaluations)


def accuracies_on_test(
    tasks: Sequence[UnlearningTask], result: Result
) -> tuple[np.ndarray, np.ndarray]:
    """Forget and retain accuracy of a method on the test sets, ``[B]`` each."""
    each = [
        set_accuracies(task, {"test": outputs["test"]})
        for task, outputs in zip(tasks, result.outputs, strict=True)
    ]
    forget, retain = (np.array([entry[name] for entry in each]) for name in TEST_METRICS)
    return forget, retain
