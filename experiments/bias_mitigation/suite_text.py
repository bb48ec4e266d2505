"""The report on real comments in Markdown, its verdict in plain words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments.bias_mitigation.config import Config
from experiments.bias_mitigation.real import RealSetup
from experiments.bias_mitigation.suite_gains import (
    CONTROL,
    SuiteChanges,
    against,
    suite_verdict,
    worst_rate,
)
from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines
from modeledit_jax.evaluation.context_bootstrap import Changes
from modeledit_jax.report.markdown import Column, interval_cell, markdown_table, table_lines
from modeledit_jax.report.table import Row, group_by
from modeledit_jax.tasks.debiasing_suites import WINDOWS

COLUMNS = (
    Column("accuracy", "lowest"),
    Column("auc", "lowest", percent=False, digits=4),
    Column(f"{WINDOWS}_dispersion", "highest", percent=False, digits=4),
    Column(f"{WINDOWS}_fped", "highest", percent=False, digits=4),
)


@dataclass(frozen=True)
class Comparison:
    """All methods beside the unedited networks.

    Attributes:
      means: metrics of every method, means over networks and folds.
      changed: changes by every method but ``original``.
      control: changes by another training seed; None if that did not run.
      learned: methods that reports show in detail.
    """

    means: Mapping[str, Mapping[str, float]]
    changed: Mapping[str, SuiteChanges]
    control: SuiteChanges | None
    learned: Sequence[str]

    def verdict(self, method: str) -> tuple[str, list]:
        """See `suite_verdict`."""
        versus = None if self.control is None else against(self.changed[method], self.control)
        return suite_verdict(self.means[method], self.means["original"], versus)


def suite_report_text(
    config: Config,
    setup: RealSetup,
    found: Comparison,
    table: Sequence[Row],
    notes: Sequence[str],
) -> str:
    """The report.

    Args:
      config: of the run.
      setup: folds and networks.
      found: all methods.
      table: one row for every method, fold and network.
      notes: for the reader, beside those of the data.
    """
    lines = [
        f"# Bias mitigation on real comments: {config.dataset} ({_subject(config)})",
        "",
        *_setting(config, setup, found),
        *comparison_lines(found),
        "## Methods",
        "",
        markdown_table(table, COLUMNS, costs=True),
        "",
        *figure_lines(run_folder(config)),
        *_folds_table(setup, table),
        "## Data",
        "",
        *(f"- {note}" for note in (*setup.folds[0].data.notes, *notes)),
    ]
    return "\n".join(lines) + "\n"


def comparison_lines(found: Comparison) -> list[str]:
    """The sections that say what methods change: verdicts, suites, use."""
    return [
        "## Verdicts",
        "",
        *_verdicts(found),
        "## Changes on the suites",
        "",
        *_changes_tables(found),
        "## Use",
        "",
        *_use_table(found),
    ]


def _subject(config: Config) -> str:
    if config.subject != "hidden":
        return str(config.subject)
    name = config.model.name if config.model else "smollm2-135m"
    return f"hidden states of {name} after layer {config.layer}, pooled by {config.pooling}"


def _setting(config: Config, setup: RealSetup, found: Comparison) -> list[str]:
    before, data = found.means["original"], setup.folds[0].data
    return [
        f"{len(setup.seeds)} networks × {len(setup.folds)} folds of held-out terms; "
        f"{config.budget:,} reward evaluations per search, network and fold; reward "
        f"{config.reward}. Edited: `{', '.join(config.site)}`. {len(data.identities)} terms. Every "
        "classifier decides at the threshold of its own equal error rate on `select`.",
        "",
        f"Unedited: balanced accuracy {100 * before['accuracy']:.2f} %, AUC {before['auc']:.4f}; "
        f"on windows dispersion {before['windows_dispersion']:.4f}, "
        f"FPED {before['windows_fped']:.4f}, FPR {before['windows_fpr']:.3f}, "
        f"FNR {before['windows_fnr']:.3f}.",
        "",
    ]


def _verdicts(found: Comparison) -> list[str]:
    """The verdict on every method, and the gates of learned edits that fail."""
    lines = []
    for name in found.changed:
        word, checks = found.verdict(name)
        failed = [f"{gate.name} {gate.limit:g}: {gate.measured:+.4f}" for gate in checks
                  if not gate.passed]  # fmt: skip
        lines += [
            f"- **{name}: {word}** ({len(checks) - len(failed)} of {len(checks)} gates)"
            + (f"; {'; '.join(failed)}" if failed else "")
        ]
    about = (
        "FAIL: a gate fails. NOT SHOWN: none fails, but dispersion or FPED on windows do not fall "
        f"by more than with {CONTROL}, in intervals. Gates: error rates on every suite, balanced "
        "accuracy, AUC on test and fuzzed comments, BPSN AUC."
    )
    return [*lines, "", about, ""]


def _changes_tables(found: Comparison) -> list[str]:
    """Dispersion and FPED on every suite, of all terms and of held-out ones."""
    suites = list(next(iter(found.changed.values())))
    lines = []
    for suite in suites:
        rows = [
            (
                name,
                *(
                    _percent(changed[suite].get(f"{statistic}{suffix}"))
                    for statistic in ("dispersion", "fped")
                    for suffix in ("", "_held_out")
                ),
                *(_points(changed[suite][rate]) for rate in ("fpr", "fnr")),
            )
            for name, changed in found.changed.items()
        ]
        header = ("method", "dispersion [95 %]", "held-out terms", "FPED [95 %]", "held-out terms",
                  "FPR, points", "FNR, points")  # fmt: skip
        lines += [f"### {suite}", "", *table_lines(header, rows), ""]
    note = (
        "Paired with the unedited networks; networks and contexts are drawn anew (2,000 "
        "resamples), folds of a network together."
    )
    return [*lines, note, ""]


def _use_table(found: Comparison) -> list[str]:
    before = found.means["original"]
    rows = []
    for name in found.changed:
        after = found.means[name]
        worst, moved = worst_rate(after, before)
        rows.append(
            (
                name,
                f"{100 * (before['accuracy'] - after['accuracy']):+.2f}",
                f"{before['auc'] - after['auc']:+.4f}",
                *(
                    f"{before[key] - after[key]:+.4f}" if key in before else "–"
                    for key in ("nonfuzzed_auc", "fuzzed_auc")
                ),
                f"{worst.replace('_', ' ')} {moved:+.3f}",
                *(
                    f"{after[key] - before[key]:+.4f}" if key in before else "–"
                    for key in ("windows_bpsn_m5", "madlibs_bpsn_m5")
                ),
            )
        )
    header = (
        "method", "balanced accuracy lost, points", "AUC lost", "AUC lost, nonfuzzed",
        "AUC lost, fuzzed", "error rate moved furthest", "BPSN, windows", "BPSN, madlibs",
    )  # fmt: skip
    return [*table_lines(header, rows), ""]


def _folds_table(setup: RealSetup, table: Sequence[Row]) -> list[str]:
    """FPED on windows of every fold, and which terms it holds out."""
    rows = group_by(table, "method", "task")
    names = list(group_by(table, "method"))
    header = ("method", *(f"fold {fold.number}, held-out terms" for fold in setup.folds))
    lines = []
    for name in names:
        cells = []
        for fold in setup.folds:
            own = rows[name, fold.tasks[0].name]
            values = [row.metrics[f"{WINDOWS}_fped_held_out"] for row in own]
            cells.append(f"{sum(values) / len(values):.4f}")
        lines.append((name, *cells))
    terms = []
    for fold in setup.folds:
        pairs = zip(fold.data.identities, fold.data.held_out, strict=True)
        terms.append(f"- fold {fold.number}: {', '.join(term for term, out in pairs if out)}")
    return ["## Held-out terms: FPED on windows", "", *table_lines(header, lines), "", *terms, ""]


def _percent(change: Changes | None) -> str:
    if change is None:  # a suite without a held-out term
        return "–"
    return interval_cell(change.interval(), 0, percent=True, signed=True) + " %"


def _points(change: Changes) -> str:
    return interval_cell(change.interval(), 1, percent=True, signed=True)
