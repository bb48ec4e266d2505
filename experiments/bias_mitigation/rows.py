"""The bias-mitigation experiment as a table: a row for every method and network."""

from collections.abc import Sequence

import numpy as np

from experiments.common.methods import Result
from modeledit_jax.evaluation.targets import first_met
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import debiasing_metrics

HALVED, ACCURACY_LOSS = 0.5, 0.01
"""A network counts as mended once FPED is halved, FNED no higher and accuracy lost ≤ 1 point."""

TARGET = "until FPED is halved, FNED no higher, accuracy lost ≤ 1 point"
"""The same in words."""


def make_rows(
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    results: Sequence[Result],
    original: Result,
) -> list[Row]:
    """One row for every method and network; those of searches have curves.

    Args:
      tasks: one per network.
      seeds: of the networks.
      results: of the methods.
      original: the unedited networks.
    """
    table = []
    for result in results:
        needed = evaluations_to_target(result, original, tasks)
        for index, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
            values = debiasing_metrics(task, result.outputs[index], original.outputs[index])
            values |= result.edit_metrics(tasks, index)
            if result.evaluations is not None:
                values["evaluations_to_target"] = float(needed[index])
            curves = search_curves(result, index)
            cost = result.costs[index]
            table.append(Row(result.method, task.name, seed, values, cost, result.factors, curves))
    return table


def search_curves(result: Result, index: int) -> dict[str, np.ndarray]:
    """Numbers on the way of a search on one task; nothing of what is no search."""
    if result.evaluations is None or result.score is None:
        return {}
    measured = {name: values[index] for name, values in result.curves.items()}
    return {"reward_evaluations": result.evaluations, "score": result.score[index], **measured}


def evaluations_to_target(
    result: Result, original: Result, tasks: Sequence[DebiasingTask]
) -> np.ndarray:
    """Reward evaluations until each network is mended (`HALVED`) on test; NaN if never."""
    if result.evaluations is None:
        return np.full(len(tasks), np.nan)
    before = [
        debiasing_metrics(task, outputs, outputs)
        for task, outputs in zip(tasks, original.outputs, strict=True)
    ]
    base = {
        name: np.array([metrics[name] for metrics in before])[:, None]
        for name in ("fped", "fned", "accuracy")
    }
    met = (
        (result.curves["fped"] <= HALVED * base["fped"])
        & (result.curves["fned"] <= base["fned"])
        & (result.curves["accuracy"] >= base["accuracy"] - ACCURACY_LOSS)
    )
    return first_met(met, result.evaluations)
