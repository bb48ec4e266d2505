"""What the lifelong editing experiment leaves behind: summary, metrics, figures, report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines
from experiments.lifelong_editing.claims import (
    Claim,
    Question,
    Runs,
    claim_lines,
    of_ours,
    of_papers,
)
from experiments.lifelong_editing.config import (
    ALL_METHODS,
    AMORTIZED,
    CHOSEN_LAYERS,
    CLOSED_FORM,
    JOINT,
    LONG_TRAINING,
    PRECONDITIONED,
    REPLAYED,
    Config,
)
from experiments.lifelong_editing.setup import Setup
from modeledit_jax.evaluation.knowledge_cards import METRIC_CARDS
from modeledit_jax.evaluation.statistics import mean_interval
from modeledit_jax.lifelong.scoring import HEADLINE, OVERALL
from modeledit_jax.presets.preset import Preset, Style
from modeledit_jax.report.aggregates import paired
from modeledit_jax.report.interval_plot import interval_plot
from modeledit_jax.report.lifelong_figures import (
    edit_trajectories,
    retention_curve,
    selection_heatmap,
)
from modeledit_jax.report.markdown import Column, interval_cell, markdown_table, table_lines
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.run.fact_run import FactRun
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.run.named_models import source_of

PERCENT = ("overall", *HEADLINE, "untouched_recall")
OF_GIVEN_MODELS = ("overall_unedited", "specificity_unedited")
"""Shown of models that are given: they know few of the facts they are asked about."""
FURTHER = ("known_recall", "multiple_choice")
"""Shown where they were asked for."""

OTHERS = {  # {metric: digits}
    "perplexity": 2,
    "weight_shift": 3,
    "weight_growth": 3,
    "ms_per_edit": 1,
    "state_bytes": 0,
}
CURVES = ("overall", *HEADLINE, "specificity_unedited", "change_norm")
"""Columns of ``metrics.csv``."""


@dataclass(frozen=True)
class Outcome:
    """One method on one seed."""

    method: str
    seed: int
    run: FactRun

    @property
    def is_routed(self) -> bool:
        """Whether it changed some modules only."""
        return 0 < self.run.metrics["modules_per_edit"] < len(self.run.modules)

    def row(self, task: str) -> Row:
        """Its line in the table, with scores on the way."""
        curves = {"edits": self.run.edits} | {name: self.run.curves[name] for name in CURVES}
        return Row(self.method, task, self.seed, self.run.metrics, self.run.cost, curves=curves)


def write_report(
    config: Config,
    presets: Sequence[Preset],
    setup: Setup,
    outcomes: Sequence[Outcome],
    notes: Sequence[str],
) -> Path:
    """Writes everything into ``config.run_dir``; returns the path of the report.

    Args:
      config: of the run.
      presets: of the methods.
      setup: that of any seed.
      outcomes: of all seeds.
      notes: what else is to be said.
    """
    run_dir = run_folder(config)
    rows = [outcome.row(config.task) for outcome in outcomes]
    write_metrics_csv(run_dir, rows)
    styles = {preset.name: preset.style for preset in presets if preset.style is not None}
    overall = "overall" if config.model is None else OF_GIVEN_MODELS[0]
    write_figures(run_dir / "figures", outcomes, styles, overall)
    table = markdown_table(rows, _columns(config, rows))
    runs: dict[str, dict[int, FactRun]] = {}
    for outcome in outcomes:
        runs.setdefault(outcome.method, {})[outcome.seed] = outcome.run
    routed = [outcome.method for outcome in outcomes if outcome.is_routed]
    claims = all_claims(runs)
    lines = [
        *_introduction(config, setup),
        *_method_lines(setup, table),
        *claim_lines(runs, claims, overall),
        *comparison_lines(rows, routed, overall, {claim.asks(overall) for claim in claims}),
        *figure_lines(run_dir),
        *_settings_lines(presets, rows, outcomes),
        *_card_lines(rows),
        *(f"- {note}" for note in (*setup.corpus.notes, *setup.corpus.edits.notes, *notes)),
    ]
    atomic_write_text(run_dir / "report.md", "\n".join(lines) + "\n")
    write_summary(run_dir, "lifelong-editing", as_json(config), rows)
    print(table)
    return run_dir / "report.md"


def _further(rows: Sequence[Row]) -> list[str]:
    return [name for name in FURTHER if any(name in row.metrics for row in rows)]


def _columns(config: Config, rows: Sequence[Row]) -> list[Column]:
    shares = (*PERCENT, *_further(rows))
    if config.model is not None:
        shares = (OF_GIVEN_MODELS[0], *shares, OF_GIVEN_MODELS[1])
    others = [Column(name, percent=False, digits=digits) for name, digits in OTHERS.items()]
    return [*(Column(name, digits=1) for name in shares), *others]


def write_figures(
    folder: Path, outcomes: Sequence[Outcome], styles: Mapping[str, Style], overall: str
) -> None:
    """All methods beside each other, trajectories, retention by age, where routed ones edited.

    ``overall`` is a key of `OVERALL`, whose metrics are shown.
    """
    runs: dict[str, list[FactRun]] = {}
    for outcome in outcomes:
        runs.setdefault(outcome.method, []).append(outcome.run)
    first = outcomes[0].run
    curves = {
        metric: {
            name: np.stack([run.curves[metric] for run in group]) for name, group in runs.items()
        }
        for metric in OVERALL[overall]
    }
    edit_trajectories(curves, first.edits, folder / "trajectories.png", styles=styles)
    final = {
        metric: {
            name: np.array([100 * run.metrics[metric] for run in group])
            for name, group in runs.items()
        }
        for metric in (overall, *OVERALL[overall])
    }
    interval_plot(final, folder / "methods.png", title="After all edits", styles=styles)
    by_age = {name: np.stack([run.retention for run in group]) for name, group in runs.items()}
    retention_curve(by_age, first.ages, folder / "retention_by_age.png", styles=styles)
    masks = {
        outcome.method: np.mean([run.masks for run in runs[outcome.method]], axis=0)
        for outcome in outcomes
        if outcome.is_routed
    }
    if masks:
        selection_heatmap(masks, first.modules, first.edits, folder / "selection.png")


def all_claims(runs: Runs) -> list[Claim]:
    """What the papers claim, and what is ours above what is published."""
    ours = {*AMORTIZED, *JOINT, *CHOSEN_LAYERS, *REPLAYED, *PRECONDITIONED} & runs.keys()
    published = {*ALL_METHODS, *CLOSED_FORM, *LONG_TRAINING} & runs.keys() - {"original"}
    return [*of_papers(), *of_ours(sorted(ours), sorted(published))]


def comparison_lines(
    rows: Sequence[Row], routed: Sequence[str], overall: str, claimed: Collection[Question] = ()
) -> list[str]:
    """Further paired differences over seeds, with t-intervals.

    RLEdit beside every method that changes all modules, HiEdit beside every one that changes some;
    what is among the claims is left out.
    """
    by_name = group_by(rows, "method")
    others = [name for name in by_name if name not in ("original", "rledit", *routed)]
    pairs = [("rledit", other, overall) for other in others if "rledit" in by_name]
    pairs += [
        ("hiedit", other, metric)
        for other in ("rledit", *dict.fromkeys(routed))
        for metric in ("retention", OVERALL[overall][2])
        if "hiedit" in by_name and other in by_name and other != "hiedit"
    ]
    lines = []
    for better, other, metric in pairs:
        differences = paired(by_name[better], by_name[other], metric)
        if (better, other, metric) in claimed or not np.isfinite(differences).all():
            continue
        cell = interval_cell(mean_interval(differences), 1, percent=True, signed=True)
        lines.append([f"{better} − {other}", metric, cell])
    if not lines:
        return []
    header = ("difference", "metric", "points [95% interval]")
    return ["## Further comparisons", "", *table_lines(header, lines, texts=2), ""]


def _introduction(config: Config, setup: Setup) -> list[str]:
    parameters = sum(leaf.size for leaf in jax.tree.leaves(setup.model.params))
    if config.model is None:
        learned = f" that had learned {len(setup.corpus.sentences):,} sentences"
    else:
        learned = f" from `{config.model}`"
        if source := source_of(setup.model.source):
            learned += f" (taken from {source})"
    return [
        f"# Lifelong editing on {config.task}",
        "",
        f"{len(setup.corpus.edits)} facts edited {config.batch_size} at a time, one batch after "
        f"another, into a language model of {parameters:,} parameters{learned}; {config.seeds} "
        f"seed(s). Methods that learn did so from {len(setup.corpus.train)} facts about other "
        "subjects.",
        "",
    ]


def _method_lines(setup: Setup, table: str) -> list[str]:
    return [
        "## Methods",
        "",
        table,
        "",
        "Means over seeds with 95% t-intervals. `overall` is the mean of the next four columns, "
        f"`retention` of the first {setup.task.first} edits. `ms per edit` is measured after "
        "compilation. `original` is the model before all edits.",
        "",
    ]


def _settings_lines(
    presets: Sequence[Preset], rows: Sequence[Row], outcomes: Sequence[Outcome]
) -> list[str]:
    """What each method is, its settings, where it edits and its gradient steps."""
    edited = {outcome.method: _shortened(outcome.run.modules) for outcome in outcomes}
    steps = {row.method: f"{row.cost.gradient_steps:,.0f}" for row in rows}
    lines = [
        (
            preset.name,
            preset.role,
            ", ".join(f"{name} {value}" for name, value in _flat(preset.settings)) or "–",
            edited[preset.name],
            steps[preset.name],
        )
        for preset in presets
    ]
    header = ("method", "role", "settings", "may edit", "gradient steps")
    return ["## Settings", "", *table_lines(header, lines, texts=4), ""]


def _shortened(modules: Sequence[str]) -> str:
    """Modules of like names as one: ``layers/{20, 21}/mlp/down``, ``layers/1/mlp/up``."""
    layers: dict[str, list[str]] = {}
    for module in modules:
        prefix, _, rest = module.partition("/")
        index, _, kind = rest.partition("/")
        layers.setdefault(f"{prefix}/{{}}/{kind}" if kind else module, []).append(index)
    indices = {
        name: found[0] if len(found) == 1 else f"{{{', '.join(found)}}}"
        for name, found in layers.items()
    }
    return ", ".join(f"`{name.format(found)}`" for name, found in indices.items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Settings of all tables, with dots between their names."""
    return [
        pair
        for name, value in settings.items()
        for pair in (
            _flat(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else [(f"{prefix}{name}", value)]
        )
    ]


def _card_lines(rows: Sequence[Row]) -> list[str]:
    shown = {*PERCENT, *_further(rows), *OF_GIVEN_MODELS, *OTHERS}
    lines = [
        (f"`{card.name}`", card.definition, card.source)
        for card in METRIC_CARDS
        if card.name in shown
    ]
    return ["## Metrics", "", *table_lines(("name", "meaning", "source"), lines, texts=3), ""]
