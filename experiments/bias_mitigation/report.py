"""What the bias-mitigation experiment leaves behind: summary, metrics, weights, figures, report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.bias_mitigation.config import Config
from experiments.bias_mitigation.gains import gains
from experiments.bias_mitigation.text import report_text
from experiments.common.methods import Result
from experiments.common.options import run_folder
from experiments.common.reporting import save_weights
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.evaluation.fairness_report import per_term
from modeledit_jax.evaluation.targets import first_met
from modeledit_jax.presets.preset import Style
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.fairness_figures import dumbbell, score_distributions
from modeledit_jax.report.planes import utility_fairness_plane
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.debiasing import DebiasingTask
from modeledit_jax.tasks.debiasing_metrics import debiasing_metrics, rows, threshold
from modeledit_jax.tasks.outputs import edit_metrics

REFERENCE_STYLES = {
    "tfidf": Style("#A0A0A0", "s", ":"),
    "fair-oracle": Style("#000000", "*", ":"),
    "biased-oracle": Style("#BFBFBF", "*", ":"),
}
"""Of classifiers that are no networks, to read the others beside."""

NOT_EDITS = ("dixon-rebalancing", "reweighing", "other-seed", *REFERENCE_STYLES)
"""Classifiers that are trained anew or are no network: no competitors of an edit."""

HALVED, ACCURACY_LOSS = 0.5, 0.01
"""A network counts as mended once FPED is halved, FNED no higher and accuracy lost ≤ 1 point."""


def write_report(
    config: Config,
    data: CommentData,
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    results: Sequence[Result],
) -> None:
    """Writes everything into ``config.run_dir``."""
    run_dir = run_folder(config)
    by_name = {result.method: result for result in results}
    table = make_rows(tasks, seeds, by_name)
    found = {
        name: gains(tasks, by_name["original"], result, _metrics(table, "original"),
                    _metrics(table, name))
        for name, result in by_name.items()
    }  # fmt: skip
    searches = [result for result in results if result.evaluations is not None]
    write_metrics_csv(run_dir, table)
    save_weights(run_dir, tasks, seeds, searches)
    write_figures(run_dir, data, tasks, by_name, table, searches)
    text = report_text(config, data, table, found, terms_table(tasks, by_name))
    atomic_write_text(run_dir / "report.md", text)
    write_summary(run_dir, "bias-mitigation", as_json(config), table)
    print(text.split("## Figures")[0])


def make_rows(
    tasks: Sequence[DebiasingTask], seeds: Sequence[int], results: Mapping[str, Result]
) -> list[Row]:
    """One row for every editor and network."""
    table = []
    for name, result in results.items():
        reached = evaluations_to_target(result, results["original"], tasks)
        for index, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
            values = debiasing_metrics(
                task, result.outputs[index], results["original"].outputs[index]
            )
            if result.leaves is not None:
                values |= edit_metrics(task.leaves, result.leaves[index])
            if result.evaluations is not None:
                values["evaluations_to_target"] = float(reached[index])
            curves = search_curves(result, index)
            table.append(Row(name, task.name, seed, values, result.costs[index], curves=curves))
    return table


def search_curves(result: Result, index: int) -> dict[str, np.ndarray]:
    """What is kept of the way of a search on one task; nothing of what is no search."""
    if result.evaluations is None or result.score is None:
        return {}
    measured = {name: values[index] for name, values in result.curves.items()}
    return {"reward_evaluations": result.evaluations, "score": result.score[index], **measured}


def _metrics(table: Sequence[Row], editor: str) -> list[Mapping[str, float]]:
    return [row.metrics for row in table if row.method == editor]


def evaluations_to_target(
    result: Result, original: Result, tasks: Sequence[DebiasingTask]
) -> np.ndarray:
    """Reward evaluations until each network is mended (`HALVED`) on test; NaN if never."""
    if result.evaluations is None:
        return np.full(len(tasks), np.nan)
    before = [
        debiasing_metrics(task, own, own) for task, own in zip(tasks, original.outputs, strict=True)
    ]
    base = {
        name: np.array([own[name] for own in before])[:, None]
        for name in ("fped", "fned", "accuracy")
    }
    met = (
        (result.curves["fped"] <= HALVED * base["fped"])
        & (result.curves["fned"] <= base["fned"])
        & (result.curves["accuracy"] >= base["accuracy"] - ACCURACY_LOSS)
    )
    return first_met(met, result.evaluations)


def terms_table(
    tasks: Sequence[DebiasingTask], results: Mapping[str, Result]
) -> dict[str, dict[str, np.ndarray]]:
    """Mean over networks of the per-term metrics of the original and of every PPO edit."""
    shown = [name for name in results if name == "original" or name.startswith("ppo")]
    found = {}
    for name in shown:
        each = [
            per_term(*rows(task, outputs, "test", "counterfactuals"), threshold(task, outputs))
            for task, outputs in zip(tasks, results[name].outputs, strict=True)
        ]
        found[name] = {key: np.mean([own[key] for own in each], axis=0) for key in each[0]}
    return found


def write_figures(
    run_dir: Path,
    data: CommentData,
    tasks: Sequence[DebiasingTask],
    results: Mapping[str, Result],
    table: Sequence[Row],
    searches: Sequence[Result],
) -> None:
    """Dumbbells, score distributions, utility–fairness plane, learning curves."""
    figures = run_dir / "figures"
    terms = terms_table(tasks, results)
    for name in terms:
        if name != "original":
            draw_edit(figures, name, data, tasks, results, terms, table)
    points = {
        name: (
            np.array([own["fped"] + own["fned"] for own in _metrics(table, name)]),
            np.array([own["auc"] for own in _metrics(table, name)]),
        )
        for name in results
        if name != "threshold-optimizer"  # its decisions have no ranking, hence no AUC to speak of
    }
    unfairness, auc = points.pop("original")
    utility_fairness_plane(
        points,
        figures / "utility_fairness.png",
        original=(float(unfairness.mean()), float(auc.mean())),
        xlabel="FPED + FNED on held-out templates (lower is fairer)",
        ylabel="AUC on test comments",
        off_front=NOT_EDITS,
        styles=REFERENCE_STYLES,
    )
    if searches:
        learning_curves(
            {r.method: r.curves["fped"] + r.curves["fned"] for r in searches},
            {r.method: r.evaluations for r in searches if r.evaluations is not None},
            "FPED + FNED on held-out templates",
            figures / "learning_curves.png",
            title="Present edit of each search",
            percent=False,
        )


def draw_edit(
    figures: Path,
    name: str,
    data: CommentData,
    tasks: Sequence[DebiasingTask],
    results: Mapping[str, Result],
    terms: Mapping[str, Mapping[str, np.ndarray]],
    table: Sequence[Row],
) -> None:
    """Error rates per term before and after one editor, and the first network's scores."""
    means = {
        editor: {
            key: float(np.mean([own[f"template_{key}"] for own in _metrics(table, editor)]))
            for key in ("fpr", "fnr")
        }
        for editor in ("original", name)
    }
    panels = {
        label: (
            terms["original"][key],
            terms[name][key],
            means["original"][key],
            means[name][key],
        )
        for label, key in (("false positive rate", "fpr"), ("false negative rate", "fnr"))
    }
    slug = name.replace("-", "_")
    dumbbell(
        data.identities,
        panels,
        np.asarray(data.held_out),
        figures / f"terms_{slug}.png",
        title=f"Error rates by identity term, before and after {name} ({len(tasks)} networks)",
    )
    pairs = {"before": results["original"].outputs[0], "after": results[name].outputs[0]}
    sets = {
        when: rows(tasks[0], outputs, "test", "counterfactuals") for when, outputs in pairs.items()
    }
    score_distributions(
        {when: own[0] for when, own in sets.items()},
        sets["before"][1],
        sets["before"][2],
        data.identities,
        figures / f"scores_{slug}.png",
        thresholds={when: threshold(tasks[0], outputs) for when, outputs in pairs.items()},
        held_out=np.asarray(data.held_out),
        title=f"Scores by identity term, before and after {name} (network {table[0].seed})",
    )
