"""What the experiment on real comments leaves behind: table, weights, figures, report."""

from collections.abc import Sequence

from experiments.bias_mitigation.config import Config
from experiments.bias_mitigation.real import RealSetup
from experiments.bias_mitigation.rows import search_curves
from experiments.bias_mitigation.suite_figures import draw_suites
from experiments.bias_mitigation.suite_gains import CONTROL, SuiteStatistics
from experiments.bias_mitigation.suite_text import Comparison, suite_report_text
from experiments.common.methods import Method, Result
from experiments.common.options import run_folder
from experiments.common.reporting import save_weights, styles_of
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.debiasing_suites import mean_metrics, suite_metrics


def write_suite_report(
    config: Config,
    setup: RealSetup,
    results: Sequence[Result],
    methods: Sequence[Method],
    notes: Sequence[str],
) -> None:
    """Writes everything into ``config.run_dir``.

    Args:
      config: of the run.
      setup: folds and networks.
      results: of all methods, with those that others are read beside; ``original`` first.
      methods: those that were named.
      notes: for the reader, beside those of the data.
    """
    run_dir = run_folder(config)
    table = suite_rows(setup, results)
    found = compare(setup, results, table)
    write_metrics_csv(run_dir, table)
    save_weights(run_dir, setup.tasks, setup.task_seeds, results)
    draw_suites(run_dir / "figures", setup, results, table, methods, styles_of(methods))
    text = suite_report_text(config, setup, found, table, notes)
    atomic_write_text(run_dir / "report.md", text)
    write_summary(run_dir, "bias-mitigation", as_json(config), table)
    print(text.split("## Figures")[0])


def compare(setup: RealSetup, results: Sequence[Result], table: Sequence[Row]) -> Comparison:
    """All methods beside the unedited networks.

    Args:
      setup: folds and networks.
      results: of all methods; ``original`` first.
      table: `suite_rows` of them.
    """
    rows = group_by(table, "method")
    statistics = SuiteStatistics(setup, {result.method: result for result in results})
    changed = {result.method: statistics.changes_of(result.method) for result in results[1:]}
    return Comparison(
        means={name: mean_metrics([row.metrics for row in own]) for name, own in rows.items()},
        changed=changed,
        control=changed.get(CONTROL),
        learned=[result.method for result in results if result.learned],
    )


def suite_rows(setup: RealSetup, results: Sequence[Result]) -> list[Row]:
    """One row for every method, fold and network; those of searches have curves."""
    table = []
    for result in results:
        for index, (task, seed) in enumerate(zip(setup.tasks, setup.task_seeds, strict=True)):
            values = suite_metrics(task, result.outputs[index])
            values |= result.edit_metrics(setup.tasks, index)
            curves = search_curves(result, index)
            cost = result.costs[index]
            table.append(Row(result.method, task.name, seed, values, cost, {}, curves))
    return table
