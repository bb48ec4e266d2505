"""The benchmark of unlearning: one method after another, each kept as soon as it is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from experiments.common.methods import Result, run_methods
from experiments.common.options import run_folder
from experiments.unlearning.rows import Cells, method_rows
from experiments.unlearning.run import Setup, make_evaluation, prepare_methods, references
from experiments.unlearning_benchmark.config import BenchmarkConfig
from experiments.unlearning_benchmark.distributions import (
    Margins,
    distances,
    task_margins,
    with_distances,
)
from experiments.unlearning_benchmark.report import write_report
from modeledit_jax.report.serialization import cached_rows
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import cached_json
from modeledit_jax.tasks.inner_forgetting import (
    InnerMeasurement,
    inner_measurements,
    inner_metrics,
)


def run(config: BenchmarkConfig) -> Path:
    """Runs the benchmark and writes its folder."""
    setup, methods = prepare_methods(config)
    results = {result.method: result for result in references(config, setup)}
    replicates = [f"retrain-{number}" for number in range(2, config.retrains + 1)]
    total = len(setup.tasks) * (len(results) + len(methods))
    with tqdm(total=total, desc="benchmark", unit="cell", smoothing=0) as bar:
        measurement = measure_against(config, setup, results, replicates, bar)
        rows = [
            row
            for name in list(results)
            for row in measurement.rows(name, partial(results.pop, name))
        ]
        edited, notes = run_methods(
            config, methods, setup.tasks, setup.seeds, make_evaluation(), measurement.rows
        )
    rows += [row for own in edited for row in own]
    write_report(config, rows, methods, replicates, notes)
    return run_folder(config) / "report.md"


@dataclass(frozen=True)
class Measurement:
    """What is measured of every method, and where it is kept.

    Attributes:
      config: options.
      setup: tasks and networks.
      cells: what rows are made from.
      inside: `inner_measurements` of the retrained networks.
      retrained: margins of the replicates of retraining, by name.
      bar: of all cells.
    """

    config: BenchmarkConfig
    setup: Setup
    cells: Cells
    inside: Sequence[dict[str, float]]
    retrained: Mapping[str, Margins]
    bar: tqdm

    def rows(self, name: str, build: Callable[[], Result]) -> list[Row]:
        """The rows of a method; from the folder of the run if they are there."""
        self.bar.set_postfix_str(name)
        path = run_folder(self.config) / "cells" / f"{name}.json"
        found = cached_rows(path, lambda: self._measured(build()))
        self.bar.update(len(self.setup.tasks))
        return found

    def _measured(self, result: Result) -> list[Row]:
        tasks = self.setup.tasks
        inner = map(inner_metrics, measured_inside(self.config, self.setup, result), self.inside)
        rows = method_rows(self.cells, result, list(inner))
        if result.method in self.retrained:  # it would be compared with itself
            return rows
        margins, retrained = task_margins(tasks, result), list(self.retrained.values())
        return with_distances(rows, distances(tasks, margins, retrained))


def measure_against(
    config: BenchmarkConfig,
    setup: Setup,
    results: dict[str, Result],
    replicates: Sequence[str],
    bar: tqdm,
) -> Measurement:
    """What measures all methods against the reference results."""
    cells = Cells(setup.tasks, setup.seeds, results["original"], results["retrain"])
    return Measurement(
        config,
        setup,
        cells,
        measured_inside(config, setup, cells.retrain),
        {name: task_margins(setup.tasks, results[name]) for name in replicates},
        bar,
    )


def measured_inside(
    config: BenchmarkConfig, setup: Setup, result: Result
) -> list[dict[str, float]]:
    """`inner_measurements` of a method's networks, each kept in a file of the run's folder."""
    settings = InnerMeasurement(repeats=config.relearning_repeats)
    folder = run_folder(config) / "inside" / result.method
    found = []
    for task, seed, params in zip(
        setup.tasks, setup.seeds, result.params(setup.tasks), strict=True
    ):
        build = partial(inner_measurements, task, params, settings)
        found.append(cached_json(folder / f"{task.name}-seed-{seed}.json", build))
    return found
