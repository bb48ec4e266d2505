"""What the unlearning experiment leaves behind: summary, metrics, weights, figures, report."""

from collections.abc import Sequence

import numpy as np

from experiments.common.methods import Method, Result
from experiments.common.options import run_folder
from experiments.common.reporting import (
    comparison_lines,
    figure_lines,
    save_weights,
    site_notes,
    speed_lines,
    styles_of,
)
from experiments.unlearning.config import Config
from experiments.unlearning.figures import write_figures
from experiments.unlearning.rows import make_rows
from experiments.unlearning.scenarios import FORGET_SETS
from modeledit_jax.evaluation.targets import TARGET
from modeledit_jax.report.markdown import Column, markdown_table
from modeledit_jax.report.summary import write_metrics_csv, write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.unlearning import UnlearningTask

INSIDE = ("prototype_gap_", "relearn_index", "membership_gap")
"""How the names of `inner_metrics` begin."""
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
    methods: Sequence[Method],
    notes: Sequence[str],
) -> None:
    """Writes everything into ``config.run_dir``.

    Args:
      config: of the run.
      tasks: ``B`` of them.
      seeds: of the network of each task.
      results: of all methods, with those that others are read beside.
      methods: those that were named.
      notes: what the reader has to know of the run.
    """
    run_dir = run_folder(config)
    by_name = {result.method: result for result in results}
    rows = make_rows(tasks, seeds, by_name, inside=config.deep_metrics)
    write_metrics_csv(run_dir, rows)
    save_weights(run_dir, tasks, seeds, results)
    write_figures(run_dir / "figures", tasks, by_name, rows, styles_of(methods))
    learned = [result.method for result in results if result.learned]
    edits = [method.name for method in methods if method.role != "reference"]
    if len(tasks[0].site) > 1:
        notes = [*notes, *site_notes(tasks, results)]
    text = report_text(config, tasks, rows, learned, edits, notes)
    atomic_write_text(run_dir / "report.md", text)
    write_summary(run_dir, "unlearning", as_json(config), rows)
    print(markdown_table(rows, COLUMNS[:3]))


def report_text(
    config: Config,
    tasks: Sequence[UnlearningTask],
    rows: Sequence[Row],
    learned: Sequence[str],
    edits: Sequence[str],
    notes: Sequence[str],
) -> str:
    """The report in Markdown.

    Args:
      config: of the run.
      tasks: of all rows.
      rows: of all methods.
      learned: methods that reinforcement learning made, whose networks are saved.
      edits: methods that these are compared with, themselves among them.
      notes: for the end.
    """
    seeds = len({row.seed for row in rows})
    names = list(dict.fromkeys(task.name for task in tasks))
    lines = [
        f"# Unlearning on {config.dataset} ({config.subject})",
        "",
        f"{len(names)} request(s) ({', '.join(names)}) on {seeds} network(s) trained from "
        f"different seeds; {config.budget:,} reward evaluations per search and task. Edited: "
        f"`{', '.join(tasks[0].site)}`{_choice(config)}. Every number is on test examples that "
        "neither the training of a network nor any reward has seen, unless its name says "
        "otherwise.",
        "",
        *([FORGET_SETS[config.scenario], ""] if FORGET_SETS[config.scenario] else []),
        "## Methods",
        "",
        markdown_table(rows, COLUMNS, costs=True),
        "",
        _reading(rows),
        "",
        *inside_lines(rows),
        *comparison_lines(rows, learned, edits, "tow", "Tug-of-War"),
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


def _choice(config: Config) -> str:
    """How many of the leaves a search edits."""
    if config.sites_chosen is None:
        return ""
    how = "drawn for each task" if config.sites_drawn else "chosen by its action"
    return f", by searches {config.sites_chosen} of these leaves, {how}"


def _reading(rows: Sequence[Row]) -> str:
    """How the table is read."""
    mask = (
        " `logit-mask` only hides the class at the output: it scores like retraining and forgets "
        "nothing inside."
    )
    masked = any(row.method == "logit-mask" for row in rows)
    return (
        f"`original` is the unedited network.{mask if masked else ''} `retrain-2` against "
        "`retrain` is the noise floor: two networks that never saw what is forgotten differ that "
        "much."
    )


def inside_lines(rows: Sequence[Row]) -> list[str]:
    """What is left inside of the networks, where it has been measured."""
    names = [name for name in rows[0].metrics if name.startswith(INSIDE)]
    if not names:
        return []
    columns = [Column(name, percent=False, digits=3) for name in names]
    return [
        "## Inside",
        "",
        markdown_table(rows, columns),
        "",
        "Means over networks and tasks, 95 % t-intervals. Gaps are to `retrain`, indices relative "
        "to it: 0 and 1 are those of a network that never saw what is forgotten, `retrain-2` shows "
        "what chance makes of them. A gap above 0: a layer still tells the class apart. A relearn "
        "index below 1: it comes back faster; far above 1 in the network as it is and below 1 with "
        "a fresh last layer: it was only hidden. Layers are counted from the end: layer 1 is what "
        "the last one reads, and an edit of one layer changes nothing before it.",
        "",
    ]


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
