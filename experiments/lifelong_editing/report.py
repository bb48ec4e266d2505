"""What the lifelong editing experiment leaves behind: summary, metrics, figures, report."""

from collections.abc import Sequence

import jax
import numpy as np

from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines
from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.methods import METHODS, TUNED
from experiments.lifelong_editing.setup import Setup
from experiments.lifelong_editing.stream_run import Outcome
from modeledit_jax.evaluation.knowledge_cards import METRIC_CARDS
from modeledit_jax.evaluation.statistics import stratified_bootstrap
from modeledit_jax.lifelong.scoring import HEADLINE
from modeledit_jax.report.interval_plot import interval_plot
from modeledit_jax.report.lifelong_figures import (
    edit_trajectories,
    retention_curve,
    selection_heatmap,
)
from modeledit_jax.report.markdown import Column, markdown_table, table_lines
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json

ALONE = ("mend", "malmen", "ultraedit", "ft-l", "ft-m")
"""Methods that RLEdit is compared with."""

ROUTED = ("hiedit", "hiedit-ste", "random-k", "fixed-k", "top-norm-k")
PERCENT = ("overall", *HEADLINE, "untouched_recall")
OTHERS = {  # {metric: digits}
    "perplexity": 2,
    "weight_shift": 3,
    "weight_growth": 3,
    "ms_per_edit": 1,
    "state_bytes": 0,
}
COLUMNS = (
    *(Column(metric, digits=1) for metric in PERCENT),
    *(Column(metric, percent=False, digits=digits) for metric, digits in OTHERS.items()),
)
CURVES = ("overall", *HEADLINE, "specificity_unedited", "change_norm")
"""Columns of ``metrics.csv``."""


def write_report(config: Config, setup: Setup, outcomes: Sequence[Outcome]) -> None:
    """Writes everything into ``config.run_dir``; ``setup`` is that of any seed."""
    run_dir = run_folder(config)
    rows = [make_row(config, outcome) for outcome in outcomes]
    write_metrics_csv(run_dir, rows)
    write_figures(config, outcomes)
    table = markdown_table(rows, COLUMNS)
    atomic_write_text(run_dir / "report.md", report_text(config, setup, rows, table))
    write_summary(run_dir, "lifelong-editing", as_json(config), rows)
    print(table)


def make_row(config: Config, outcome: Outcome) -> Row:
    """One method on one seed, with its scores on the way."""
    curves = {"edits": outcome.edits} | {name: outcome.curves[name] for name in CURVES}
    return Row(
        outcome.editor, config.corpus, outcome.seed, outcome.metrics, outcome.cost, curves=curves
    )


def write_figures(config: Config, outcomes: Sequence[Outcome]) -> None:
    """All methods beside each other, trajectories, retention by age, where routed ones edited."""
    figures = run_folder(config) / "figures"
    runs = {
        name: [own for own in outcomes if own.editor == name]
        for name in dict.fromkeys(own.editor for own in outcomes)
    }
    first = outcomes[0]
    curves = {
        metric: {name: np.stack([one.curves[metric] for one in own]) for name, own in runs.items()}
        for metric in HEADLINE
    }
    edit_trajectories(curves, first.edits, figures / "trajectories.png")
    ends = {
        metric: {
            name: np.array([100 * one.metrics[metric] for one in own]) for name, own in runs.items()
        }
        for metric in ("overall", *HEADLINE)
    }
    interval_plot(ends, figures / "methods.png", title="After all edits")
    by_age = {name: np.stack([one.retention for one in own]) for name, own in runs.items()}
    retention_curve(by_age, first.ages, figures / "retention_by_age.png")
    masks = {
        name: np.mean([one.masks for one in own], axis=0)
        for name, own in runs.items()
        if name in ROUTED
    }
    if masks:
        selection_heatmap(masks, first.modules, first.edits, figures / "selection.png")


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """The questions the experiment was made for, as paired differences over seeds."""
    by_name = group_by(rows, "method")
    pairs = [("rledit", other, "overall") for other in ALONE]
    pairs += [
        ("hiedit", other, metric)
        for other in ("rledit", "random-k", "hiedit-ste")
        for metric in ("retention", "specificity")
    ]
    lines = []
    for better, other, metric in pairs:
        if better not in by_name or other not in by_name:
            continue
        one, two = (
            np.array([row.metrics[metric] for row in by_name[name]]) for name in (better, other)
        )
        if not np.isfinite([one, two]).all():
            continue
        found = stratified_bootstrap((one - two)[:, None], np.mean)
        interval = (
            f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]" if len(one) > 1 else "one seed"
        )
        lines.append([f"{better} − {other}", metric, f"{100 * found.point:+.1f}", interval])
    if not lines:
        return []
    header = ("difference", "metric", "points", "95% interval")
    return ["## Comparisons", "", *table_lines(header, lines, texts=2), ""]


def report_text(config: Config, setup: Setup, rows: Sequence[Row], table: str) -> str:
    """The report in Markdown."""
    lines = [
        f"# Lifelong editing on {config.corpus}",
        "",
        f"{len(setup.corpus.edits)} facts edited {config.batch_size} at a time, one batch after "
        f"another, into a language model of {parameters(setup):,} parameters that had learnt "
        f"{len(setup.corpus.sentences):,} sentences; {config.seeds} seed(s). Editors that learn "
        f"had {config.meta_updates} gradient steps on {len(setup.corpus.train)} facts about other "
        f"subjects. Edited: {len(setup.model.modules)} layers, "
        f"`{', '.join(setup.model.modules)}`; routed methods change {config.fraction:g} of them "
        "at a time.",
        "",
        "## Methods",
        "",
        table,
        "",
        f"Means over seeds with 95% t-intervals. `overall` is the mean of the next four columns, "
        f"`retention` of the first {config.retained} edits. `ms per edit` is measured after "
        "compilation. `original` is the model before all edits.",
        "",
        *comparison_lines(rows),
        *figure_lines(run_folder(config)),
        *_settings_lines(config),
        *_card_lines(),
        *(f"- {note}" for note in (*setup.corpus.notes, *setup.corpus.edits.notes)),
    ]
    return "\n".join(lines) + "\n"


def parameters(setup: Setup) -> int:
    """Of the language model."""
    return sum(leaf.size for leaf in jax.tree.leaves(setup.model.params))


def _settings_lines(config: Config) -> list[str]:
    """Step sizes of the methods that were run; routed ones take those of RLEdit."""
    routed = not set(ROUTED).isdisjoint(config.methods)
    lines = [
        (name, ", ".join(f"{key} {value:g}" for key, value in TUNED[name].items()))
        for name in METHODS
        if name in TUNED and (name in config.methods or (name == "rledit" and routed))
    ]
    if not lines:
        return []
    return ["## Settings", "", *table_lines(("method", "step sizes"), lines, texts=2), ""]


def _card_lines() -> list[str]:
    shown = {*PERCENT, *OTHERS}
    lines = [
        (f"`{card.name}`", card.definition, card.source)
        for card in METRIC_CARDS
        if card.name in shown
    ]
    return ["## Metrics", "", *table_lines(("name", "meaning", "source"), lines, texts=3), ""]
