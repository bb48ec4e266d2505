"""The report of the bias-mitigation experiment in Markdown, its verdict in plain words."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.bias_mitigation.config import Config
from experiments.bias_mitigation.gains import Gains, verdict
from experiments.bias_mitigation.rows import TARGET
from experiments.common.options import run_folder
from experiments.common.reporting import figure_lines, speed_lines
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.evaluation.statistics import Interval, mean_interval
from modeledit_jax.report.aggregates import paired
from modeledit_jax.report.markdown import Column, interval_cell, markdown_table, table_lines
from modeledit_jax.report.table import Row, group_by

COLUMNS = (
    Column("accuracy", "lowest"),
    Column("auc", "lowest", percent=False, digits=4),
    Column("fped", "highest", percent=False, digits=4),
    Column("fned", "highest", percent=False, digits=4),
    Column("bpsn_m5", "lowest", percent=False, digits=4),
)


def report_text(
    config: Config,
    data: CommentData,
    table: Sequence[Row],
    found: Mapping[str, Gains],
    terms: Mapping[str, Mapping[str, np.ndarray]],
) -> str:
    """The report.

    Args:
      config: of the run.
      data: the comments.
      table: one row for every method and network.
      found: gains of every method over the original.
      terms: per-term metrics of the original and of the learned edits, means over networks.
    """
    learned = [name for name in terms if name != "original"]
    lines = [
        f"# Bias mitigation on {data.name} ({config.subject})",
        "",
        *_setting(config, data, table),
        "## Verdict",
        "",
        *_verdicts(table, found, learned),
        "## Gains over the unedited network",
        "",
        *_gains_table(found),
        *_against_others(table, learned),
        "## Methods",
        "",
        markdown_table(table, COLUMNS, costs=True),
        "",
        *speed_lines(
            TARGET,
            table,
            solved="networks",
            levels={"median": 0.5},
        ),
        *figure_lines(run_folder(config)),
        "## Identity terms",
        "",
        *_terms_table(data, terms),
    ]
    return "\n".join(lines) + "\n"


def _setting(config: Config, data: CommentData, table: Sequence[Row]) -> list[str]:
    networks = len({row.seed for row in table})
    number = len(data.identities)
    hidden = [term for term, out in zip(data.identities, data.held_out, strict=True) if out]
    lines = [
        f"{networks} network(s) trained from different seeds; {config.budget:,} reward evaluations "
        f"per search and network. Edited: `{', '.join(config.site)}`. FPED and FNED are means over "
        f"{number} identity terms of |error rate of the term − overall error rate| on the "
        "counterfactual test set, at the threshold of each classifier's own equal error rate on "
        "the comments of `select`. Accuracy and AUC are on test comments.",
        "",
        "Never seen by any reward, neither as term nor in a counterfactual: "
        + (", ".join(hidden) or "none")
        + ".",
        "",
    ]
    return [*lines, *(f"- {note}" for note in data.notes), ""]


def _verdicts(
    table: Sequence[Row], found: Mapping[str, Gains], learned: Sequence[str]
) -> list[str]:
    """What the gates say of learned edits."""
    rows = group_by(table, "method")
    lines = []
    for name in learned:
        word, checks = verdict(found[name], rows[name], rows["original"])
        lines += [f"**{name}: {word}.** {_in_words(word, found[name])}", ""]
        lines += [
            f"- [{'x' if gate.passed else ' '}] {gate.name} {gate.limit:g}: {gate.measured:.4f}"
            for gate in checks
        ]
        lines.append("")
    return lines


def _in_words(word: str, gain: Gains) -> str:
    change = (
        f"FPED changes by {_percent(gain.fped)}, FNED by {_plain(gain.fned)}, accuracy falls by "
        f"{_points(gain.accuracy_drop)} points."
    )
    meaning = {
        "PASS": "The identity terms decide less, and the classifier is as useful as before.",
        "NOT SHOWN": "No gate fails, but the intervals do not show a gain.",
        "FAIL": "At least one gate fails: whatever the equality differences say, this edit does "
        "not make the classifier fairer at equal use.",
    }
    return f"{change} {meaning[word]}"


def _gains_table(found: Mapping[str, Gains]) -> list[str]:
    header = (
        "method", "FPED change [95 %]", "held-out terms", "FNED change [95 %]",
        "accuracy lost, points", "AUC lost", "BPSN M₋₅ change", "smallest corrected p",
    )  # fmt: skip
    rows = [
        (
            name,
            _percent(gain.fped),
            "–" if gain.fped_held_out is None else _percent(gain.fped_held_out),
            _plain(gain.fned),
            _points(gain.accuracy_drop),
            _plain(gain.auc_drop),
            _plain(gain.bpsn),
            f"{min(gain.p_values.values()):.3f}",
        )
        for name, gain in found.items()
        if name != "original"
    ]
    note = (
        "Paired with the unedited network. FPED, FNED: networks and counterfactual contexts are "
        "drawn anew (10,000 resamples); the others: t-interval over networks; p: Wilcoxon "
        "signed-rank test on FPED, FNED, BPSN and BNSP, corrected by Holm."
    )
    return [*table_lines(header, rows), "", note, ""]


def _against_others(table: Sequence[Row], learned: Sequence[str]) -> list[str]:
    """Differences between learned edits and everything else, paired by network."""
    rows = group_by(table, "method")
    lines = []
    for name in learned:
        for other in rows:
            if other == name:
                continue
            fped, fned, accuracy = (
                paired(rows[name], rows[other], metric) for metric in ("fped", "fned", "accuracy")
            )
            unfairness = mean_interval(fped + fned)
            lines.append((name, other, _plain(unfairness), _points(mean_interval(accuracy))))
    if not lines:
        return []
    header = (
        "PPO", "against", "FPED + FNED: PPO − other [95 %]", "accuracy: PPO − other, points",
    )  # fmt: skip
    note = "Below zero, PPO's edit is the fairer one. t-intervals over networks."
    return ["## PPO against the others", "", *table_lines(header, lines, texts=2), "", note, ""]


def _terms_table(data: CommentData, terms: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    keys = ("fpr", "fnr", "bpsn_auc", "bnsp_auc", "subgroup_auc")
    header = ["term", *(f"{key} {name}" for key in keys for name in terms)]
    rows = []
    for index, (term, held_out) in enumerate(zip(data.identities, data.held_out, strict=True)):
        values = [f"{metrics[key][index]:.3f}" for key in keys for metrics in terms.values()]
        rows.append([f"{term}{' *' if held_out else ''}", *values])
    return [*table_lines(header, rows), "", "\\* held out from every reward."]


def _percent(interval: Interval) -> str:
    return interval_cell(interval, 0, percent=True, signed=True) + " %"


def _points(interval: Interval) -> str:
    return interval_cell(interval, 2, percent=True, signed=True)


def _plain(interval: Interval) -> str:
    return interval_cell(interval, 4, signed=True)
