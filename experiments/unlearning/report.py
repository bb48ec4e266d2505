"""What the unlearning experiment leaves behind: summary, metrics, weights, figures, report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.common.methods import Result
from experiments.common.options import run_folder
from experiments.common.reporting import (
    figure_lines,
    save_weights,
    speed_lines,
)
from experiments.unlearning.config import Config
from modeledit_jax.evaluation.accuracy import confusion_matrix
from modeledit_jax.evaluation.forgetting import tow
from modeledit_jax.evaluation.targets import TARGET, first_met, forgotten
from modeledit_jax.report.curves import learning_curves
from modeledit_jax.report.markdown import Column, markdown_table
from modeledit_jax.report.matrices import confusion_before_after, edit_heatmap
from modeledit_jax.report.planes import forget_retain_plane
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.outputs import edit_metrics
from modeledit_jax.tasks.unlearning import UnlearningTask
from modeledit_jax.tasks.unlearning_metrics import (
    TEST_METRICS,
    set_accuracies,
    unlearning_metrics,
)
from modeledit_jax.types import Leaves

COLUMNS = (
    Column("forget_accuracy_test", "highest"),
    Column("retain_accuracy_test", "lowest"),
    Column("retain_drop_test", "highest"),
    Column("tow", "lowest", percent=False, digits=4),
)


def write_report(
    config: Config,
    tasks: Sequence[UnlearningTask],
    seeds: Sequence[int],
    results: Sequence[Result],
    notes: Sequence[str],
) -> None:
    """Writes everything into ``config.run_dir``."""
    run_dir = run_folder(config)
    by_name = {result.method: result for result in results}
    rows = make_rows(tasks, seeds, by_name)
    searches = [result for result in results if result.evaluations is not None]
    write_metrics_csv(run_dir, rows)
    save_weights(run_dir, tasks, seeds, searches)
    write_figures(run_dir, tasks, by_name, searches)
    learned = [result.method for result in searches if result.learned]
    text = report_text(config, tasks, rows, learned, notes)
    atomic_write_text(run_dir / "report.md", text)
    write_summary(run_dir, "unlearning", as_json(config), rows)
    print(markdown_table(rows, COLUMNS[:3]))


def make_rows(
    tasks: Sequence[UnlearningTask], seeds: Sequence[int], results: Mapping[str, Result]
) -> list[Row]:
    """One row for every editor and task."""
    rows = []
    for name, result in results.items():
        solved = evaluations_to_target(result, tasks, results["original"])
        curves = search_curves(result, tasks, results["retrain"])
        for index, (task, seed) in enumerate(zip(tasks, seeds, strict=True)):
            metrics = unlearning_metrics(
                task,
                result.outputs[index],
                results["original"].outputs[index],
                results["retrain"].outputs[index],
            )
            if result.leaves is not None:
                metrics |= edit_metrics(task.leaves, result.leaves[index])
                metrics["evaluations_to_target"] = float(solved[index])
            rows.append(
                Row(name, task.name, seed, metrics, result.costs[index], curves=curves[index])
            )
    return rows


def evaluations_to_target(
    result: Result, tasks: Sequence[UnlearningTask], original: Result
) -> np.ndarray:
    """Reward evaluations of every task until its edit first meets the target; NaN if never."""
    if result.evaluations is None:
        return np.full(len(tasks), np.nan)
    _, base = accuracies_on_test(tasks, original)
    met = forgotten(result.curves["forget"], result.curves["retain"], base[:, None])
    return first_met(met, result.evaluations)


def accuracies_on_test(
    tasks: Sequence[UnlearningTask], result: Result
) -> tuple[np.ndarray, np.ndarray]:
    """Forget and retain accuracy of an editor on the test sets, ``[B]`` each."""
    each = [
        set_accuracies(task, {"test": outputs["test"]})
        for task, outputs in zip(tasks, result.outputs, strict=True)
    ]
    forget, retain = (np.array([entry[name] for entry in each]) for name in TEST_METRICS)
    return forget, retain


def tow_curves(result: Result, tasks: Sequence[UnlearningTask], retrain: Result) -> np.ndarray:
    """Test Tug-of-War of every task along a search, ``[B, K]``."""
    reference = zip(TEST_METRICS, accuracies_on_test(tasks, retrain), strict=True)
    curves = {f"{name}_accuracy_test": values for name, values in result.curves.items()}
    return np.asarray(tow(curves, {name: own[:, None] for name, own in reference}, TEST_METRICS))


def search_curves(
    result: Result, tasks: Sequence[UnlearningTask], retrain: Result
) -> list[dict[str, np.ndarray]]:
    """What is kept of the way of a search, for each task; nothing of what is no search."""
    if result.evaluations is None or result.score is None:
        return [{} for _ in tasks]
    closeness = tow_curves(result, tasks, retrain)
    forget, retain = TEST_METRICS
    return [
        {
            "reward_evaluations": result.evaluations,
            "score": result.score[index],
            forget: result.curves["forget"][index],
            retain: result.curves["retain"][index],
            "tow_test": closeness[index],
        }
        for index in range(len(tasks))
    ]


def write_figures(
    run_dir: Path,
    tasks: Sequence[UnlearningTask],
    results: Mapping[str, Result],
    searches: Sequence[Result],
) -> None:
    """Learning curves, forget–retain plane, heatmap of the edit, confusion matrices."""
    figures = run_dir / "figures"
    points = {name: accuracies_on_test(tasks, result) for name, result in results.items()}
    means = {name: (float(f.mean()), float(r.mean())) for name, (f, r) in points.items()}
    forget_retain_plane(
        {name: own for name, own in points.items() if name not in ("original", "retrain")},
        figures / "forget_retain.png",
        original=means["original"],
        retrain=means["retrain"],
    )
    if not searches:
        return
    learning_curves(
        {result.method: tow_curves(result, tasks, results["retrain"]) for result in searches},
        {r.method: r.evaluations for r in searches if r.evaluations is not None},
        "Tug-of-War on test (1 = as retrained)",
        figures / "learning_curves.png",
        title="Present edit of each search",
        percent=False,
    )
    shown = [result for result in searches if result.learned] or list(searches)
    changes = {
        result.method: matrix_of_change(tasks[0].leaves, result.leaves[0])
        for result in shown
        if result.leaves is not None
    }
    edit_heatmap(changes, figures / "edit.png")
    for result in shown:
        write_confusion(figures, tasks[0], results["original"], result)


def write_confusion(figures: Path, task: UnlearningTask, original: Result, edited: Result) -> None:
    """Confusion matrices of the first task before and after an edit."""
    before, after = (
        np.asarray(
            confusion_matrix(
                jnp.asarray(result.outputs[0]["test"]),
                jnp.asarray(task.roles["test"].targets),
                result.outputs[0]["test"].shape[-1],
            )
        )
        for result in (original, edited)
    )
    confusion_before_after(
        before,
        after,
        [str(index) for index in range(len(before))],
        figures / f"confusion_{edited.method.replace('-', '_')}.png",
        forgotten=task.forget_classes[0] if task.forget_classes else None,
    )


def matrix_of_change(original: Leaves, edited: Leaves) -> np.ndarray:
    """Change of the first edited leaf as a matrix ``[D, H]``."""
    path, leaf = next(iter(original.items()))
    return np.asarray(edited[path] - leaf).reshape(-1, leaf.shape[-1])


def report_text(
    config: Config,
    tasks: Sequence[UnlearningTask],
    rows: Sequence[Row],
    learned: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The report in Markdown; ``learned`` are the methods whose networks are saved."""
    seeds = len({row.seed for row in rows})
    names = list(dict.fromkeys(task.name for task in tasks))
    lines = [
        f"# Unlearning on {config.dataset} ({config.subject})",
        "",
        f"{len(names)} request(s) ({', '.join(names)}) on {seeds} network(s) trained from "
        f"different seeds; {config.budget:,} reward evaluations per search and task. Edited: "
        f"`{', '.join(tasks[0].site)}`. Every number is on test examples that neither the "
        "training of a network nor any reward has seen, unless its name says otherwise.",
        "",
        "## Methods",
        "",
        markdown_table(rows, COLUMNS, costs=True),
        "",
        "`original` is the unedited network. `logit-mask` only hides the class at the output: it "
        "scores like retraining and forgets nothing inside. `retrain-2` against `retrain` is the "
        "noise floor: two networks that never saw the class differ that much.",
        "",
        *speed_lines(
            f"to {TARGET}",
            rows,
            solved="solved",
            levels={"median": 0.5, "90th percentile": 0.9},
        ),
        *figure_lines(run_folder(config)),
        *_weights_lines(config, tasks, rows, learned),
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines) + "\n"


def _weights_lines(
    config: Config, tasks: Sequence[UnlearningTask], rows: Sequence[Row], learned: Sequence[str]
) -> list[str]:
    """How to load an edited network."""
    if not learned:
        return []
    count = np.asarray(tasks[0].subject.params["head"]["bias"]).shape[0]
    folder = f"{config.run_dir}/weights/{learned[-1]}/{tasks[0].name}-seed-{rows[0].seed}"
    return [
        "## Load an edited network",
        "",
        "```python",
        "from modeledit_jax.run.checkpoint import load_params",
        "from modeledit_jax.subjects.image_classifiers import make_classifier",
        f'logits = make_classifier("{config.subject}", {count}).apply('
        f'{{"params": load_params("{folder}")}}, x)',
        "```",
        "",
    ]
