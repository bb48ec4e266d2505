"""The benchmark of unlearning: one method after another, each kept as soon as it is measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from tqdm import tqdm

from experiments.common.methods import Result, run_methods
from experiments.common.options import run_folder
from experiments.unlearning.rows import Cells, method_rows
from experiments.unlearning.run import Setup, make_evaluation, prepare_methods, references, rewarded
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
from modeledit_jax.run.digested_json import cached_json
from modeledit_jax.tasks.inner_forgetting import (
    InnerMeasurement,
    Probes,
    inner_measurements,
    inner_metrics,
    make_probes,
)
from modeledit_jax.types import Params


def run(config: BenchmarkConfig) -> Path:
    """Runs the benchmark and writes its folder."""
    setup, methods = prepare_methods(config)
    found = references(config, setup)
    setup = rewarded(config, setup, found[-1])
    results = {result.method: result for result in found}
    del found  # each is dropped as soon as it is measured
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
      inside: what measures networks inside.
      retrain: its measurements of the retrained networks.
      retrained: margins of the replicates of retraining, by name.
      bar: of all cells.
    """

    config: BenchmarkConfig
    setup: Setup
    cells: Cells
    inside: "Inside"
    retrain: Sequence[dict[str, float]]
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
        inner = list(map(inner_metrics, self.inside.of(result), self.retrain))
        rows = method_rows(self.cells, result, inner)
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
    settings = InnerMeasurement(repeats=config.relearning_repeats)
    inside = Inside(run_folder(config) / "inside", settings, setup)
    return Measurement(
        config,
        setup,
        cells,
        inside,
        inside.of(cells.retrain),
        {name: task_margins(setup.tasks, results[name]) for name in replicates},
        bar,
    )


@dataclass(frozen=True)
class Inside:
    """`inner_measurements` of networks, each kept in a file.

    Attributes:
      folder: of the files.
      settings: of the measurements.
      setup: the tasks.
    """

    folder: Path
    settings: InnerMeasurement
    setup: Setup

    @cached_property
    def probes(self) -> list[Probes]:
        """Of every task."""
        return [make_probes(task, self.settings) for task in self.setup.tasks]

    def of(self, result: Result) -> list[dict[str, float]]:
        """The measurements of a method, of every task."""
        tasks, seeds = self.setup.tasks, self.setup.seeds
        found = []
        for index, params in enumerate(result.params(tasks)):
            name = f"{tasks[index].name}-seed-{seeds[index]}"
            build = partial(self._measured, index, params)
            found.append(cached_json(self.folder / result.method / f"{name}.json", build))
        return found

    def _measured(self, index: int, params: Params) -> dict[str, float]:
        task, probes = self.setup.tasks[index], self.probes[index]
        return inner_measurements(task, params, self.settings, probes)
