"""What the bias-mitigation experiment leaves behind: summary, metrics, weights, figures, report."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.bias_mitigation.config import Config
from experiments.bias_mitigation.figures import draw_edit, write_figures
from experiments.bias_mitigation.gains import gains
from experiments.bias_mitigation.rows import make_rows
from experiments.bias_mitigation.text import report_text
from experiments.common.methods import Method, Result
from experiments.common.options import run_folder
from experiments.common.reporting import save_weights, styles_of
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.evaluation.fairness_report import per_term
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import group_by
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import labeled_scores, threshold


def write_report(
    config: Config,
    data: CommentData,
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    results: Sequence[Result],
    methods: Sequence[Method],
) -> None:
    """Writes everything into ``config.run_dir``.

    Args:
      config: of the run.
      data: the comments, with notes for the reader.
      tasks: one per network.
      seeds: of the networks.
      results: of all methods, with those that others are read beside.
      methods: those that were named.
    """
    run_dir = run_folder(config)
    by_name = {result.method: result for result in results}
    original = by_name["original"]
    table = make_rows(tasks, seeds, results, original)
    rows = group_by(table, "method")
    found = {
        name: gains(tasks, original, result, rows["original"], rows[name])
        for name, result in by_name.items()
    }
    learned = [result for result in results if result.learned]
    terms = terms_table(tasks, [original, *learned])
    write_metrics_csv(run_dir, table)
    save_weights(run_dir, tasks, seeds, results)
    figures = run_dir / "figures"
    for result in learned:
        draw_edit(figures, data, tasks, original, result, terms, table)
    references = [method.name for method in methods if method.role == "reference"]
    write_figures(figures, table, references=references, styles=styles_of(methods))
    text = report_text(config, data, table, found, terms)
    atomic_write_text(run_dir / "report.md", text)
    write_summary(run_dir, "bias-mitigation", as_json(config), table)
    print(text.split("## Figures")[0])


def terms_table(
    tasks: Sequence[DebiasingTask], results: Sequence[Result]
) -> dict[str, Mapping[str, np.ndarray]]:
    """Per-term metrics ``{method: {name: [T]}}``, means over networks."""
    found: dict[str, Mapping[str, np.ndarray]] = {}
    for result in results:
        each = [
            per_term(
                *labeled_scores(task, outputs, "test", "counterfactuals"),
                threshold(task, outputs),
            )
            for task, outputs in zip(tasks, result.outputs, strict=True)
        ]
        found[result.method] = {
            name: np.mean([terms[name] for terms in each], axis=0) for name in each[0]
        }
    return found
