"""Trains policies on some classifiers, edits others, and writes the table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.bias_mitigation.report import make_rows
from experiments.bias_mitigation.run import Setup, fairness_evaluation, prepare, unedited
from experiments.common.methods import Result, evaluated, method_keys
from experiments.common.options import World, run_folder
from experiments.common.policies import FIRST_TRAINING_SEED, train_policy
from experiments.transfer_bias.config import Config
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.report.markdown import mean_cell, table_lines
from modeledit_jax.report.summary import write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json

SHOWN = ("fped", "fped_held_out", "fned", "fned_held_out", "accuracy_drop")


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    training = prepare(replace(config, seed=FIRST_TRAINING_SEED, seeds=config.training_networks))
    setup = prepare(config)
    results = [unedited(setup.tasks, fairness_evaluation(setup.tasks[0]))]
    for world in config.worlds:
        results += _by_policy(config, world, training, setup)
    rows = make_rows(setup.tasks, setup.seeds, {result.method: result for result in results})
    _write(config, rows)
    return run_folder(config) / "report.md"


def _by_policy(config: Config, world: World, training: Setup, setup: Setup) -> list[Result]:
    options = PolicyTraining(
        updates=config.updates,
        tasks=min(8, len(training.tasks)),
        trials=32,
        examples=None,  # counterfactuals belong together
    )
    trainer = PolicyTrainer.of(options, world, [training.tasks])
    policy = train_policy(run_folder(config), world, trainer, config.seed)
    tasks, keys = setup.tasks, method_keys(setup.seeds)
    results = []
    for budget in (0, config.budget):
        name = f"policy-{world}" + (f"-plus-{budget}" if budget else "")
        found = edit_many(replace(policy.editor, adaptation=budget), tasks, keys)
        results.append(evaluated(name, found, tasks, fairness_evaluation(tasks[0])))
    return results


def _write(config: Config, rows: Sequence[Row]) -> None:
    header = ["method", *(name.replace("_", " ") for name in SHOWN)]
    editors = list(dict.fromkeys(row.method for row in rows))
    cells = []
    for editor in editors:
        own = [row.metrics for row in rows if row.method == editor]
        cells.append([editor, *(mean_cell([m[name] for m in own], 4) for name in SHOWN)])
    lines = [
        "# Learning to edit: identity bias",
        "",
        f"Policies trained on {config.training_networks} classifiers; {config.seeds} others edited "
        "without a reward evaluation, and with some. Test comments; sentence frames no reward has "
        "seen; `held out`: identity terms no reward has seen. Means with 95 % t-intervals over "
        "classifiers.",
        "",
        *table_lines(header, cells),
        "",
    ]
    text = "\n".join(lines)
    atomic_write_text(run_folder(config) / "report.md", text)
    write_summary(run_folder(config), "transfer-bias", as_json(config), rows)
    print(text)
