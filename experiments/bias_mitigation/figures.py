"""Figures of the bias-mitigation experiment."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.bias_mitigation.oracle import NAME as DECISIONS_ALONE
from experiments.common.methods import Result
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.fairness_figures import dumbbell, score_distributions
from modeledit_jax.report.planes import utility_fairness_plane
from modeledit_jax.report.table import Row, curve_matrix, group_by, select
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import labeled_scores, threshold

REFERENCE_STYLES = {
    "tfidf": Style("#A0A0A0", "s", ":"),
    "fair-oracle": Style("#000000", "*", ":"),
    "biased-oracle": Style("#BFBFBF", "*", ":"),
}
"""Of classifiers that are no networks, to read the others beside."""

Terms = Mapping[str, Mapping[str, np.ndarray]]
"""Per-term metrics ``{method: {name: [T]}}``, means over networks."""


def write_figures(
    folder: Path,
    table: Sequence[Row],
    *,
    references: Collection[str] = (),
    styles: Mapping[str, Style] | None = None,
) -> None:
    """Utility–fairness plane and learning curves.

    Args:
      folder: to write them into.
      table: rows of all methods.
      references: methods that are no edits and compete not for the front.
      styles: of methods of the user.
    """
    styles = {**REFERENCE_STYLES, **(styles or {})}
    points = {
        name: (_unfairness(rows), np.array([row.metrics["auc"] for row in rows]))
        for name, rows in group_by(table, "method").items()
        if name != DECISIONS_ALONE  # they have no ranking, hence no AUC to speak of
    }
    unfairness, auc = points.pop("original")
    utility_fairness_plane(
        points,
        folder / "utility_fairness.png",
        original=(float(unfairness.mean()), float(auc.mean())),
        xlabel="FPED + FNED on held-out templates (lower is fairer)",
        ylabel="AUC on test comments",
        off_front={*references, *REFERENCE_STYLES},
        styles=styles,
    )
    searches = group_by([row for row in table if row.curves], "method")
    if searches:
        learning_curves(
            {
                name: curve_matrix(rows, "fped") + curve_matrix(rows, "fned")
                for name, rows in searches.items()
            },
            {name: curve_matrix(rows, "reward_evaluations")[0] for name, rows in searches.items()},
            "FPED + FNED on held-out templates",
            folder / "learning_curves.png",
            title="Present edit of each search",
            percent=False,
            styles=styles,
        )


def _unfairness(rows: Sequence[Row]) -> np.ndarray:
    return np.array([row.metrics["fped"] + row.metrics["fned"] for row in rows])


def draw_edit(
    folder: Path,
    data: CommentData,
    tasks: Sequence[DebiasingTask],
    before: Result,
    after: Result,
    terms: Terms,
    table: Sequence[Row],
) -> None:
    """Error rates per term before and after one method, and the first network's scores.

    Args:
      folder: to write them into.
      data: the comments.
      tasks: one per network.
      before, after: outputs of the unedited and of the edited networks.
      terms: of both.
      table: rows of both.
    """
    name = after.method
    slug = name.replace("-", "_")
    dumbbell(
        data.identities,
        {
            "false positive rate": _rates(before.method, name, "fpr", terms, table),
            "false negative rate": _rates(before.method, name, "fnr", terms, table),
        },
        np.asarray(data.held_out),
        folder / f"terms_{slug}.png",
        title=f"Error rates by identity term, before and after {name} ({len(tasks)} networks)",
    )
    outputs = {"before": before.outputs[0], "after": after.outputs[0]}
    sets = {
        when: labeled_scores(tasks[0], logits, "test", "counterfactuals")
        for when, logits in outputs.items()
    }
    score_distributions(
        {when: scores for when, (scores, *_) in sets.items()},
        sets["before"][1],
        sets["before"][2],
        data.identities,
        folder / f"scores_{slug}.png",
        thresholds={when: threshold(tasks[0], logits) for when, logits in outputs.items()},
        held_out=np.asarray(data.held_out),
        title=f"Scores by identity term, before and after {name} (network {table[0].seed})",
    )


def _rates(
    before: str, after: str, rate: str, terms: Terms, table: Sequence[Row]
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """A rate of every term before and after, then the overall rate before and after."""
    overall = (
        float(np.mean([row.metrics[f"template_{rate}"] for row in select(table, method=name)]))
        for name in (before, after)
    )
    first, second = overall
    return terms[before][rate], terms[after][rate], first, second
