"""Trains policies on some classifiers, edits others, and writes the table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.bias_mitigation.real import prepare_real
from experiments.bias_mitigation.rows import make_rows
from experiments.bias_mitigation.run import (
    fairness_evaluation,
    prepare,
    training_key,
    unedited,
)
from experiments.common.memory import announcer
from experiments.common.methods import Result, evaluated, method_keys
from experiments.common.options import FIRST_TRAINING_SEED, World, memory_budget, run_folder
from experiments.common.policies import train_policy
from experiments.transfer_bias.config import Config
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.report.markdown import Column, markdown_table
from modeledit_jax.report.summary import write_summary
from modeledit_jax.report.table import Row
from modeledit_jax.run.edit_many import edit_many
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.folder import as_json
from modeledit_jax.tasks.debiasing import DebiasingTask

COLUMNS = tuple(
    Column(metric, percent=False, digits=4)
    for metric in ("fped", "fped_held_out", "fned", "fned_held_out", "accuracy_drop")
)


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    training, _ = _tasks(replace(config, seed=FIRST_TRAINING_SEED, seeds=config.training_networks))
    tasks, seeds = _tasks(config)
    original = unedited(tasks, fairness_evaluation(tasks[0]))
    results = [original]
    for world in config.worlds:
        results += _by_policy(config, world, training, tasks, seeds)
    _write(config, make_rows(tasks, seeds, results, original))
    return run_folder(config) / "report.md"


def _tasks(config: Config) -> tuple[list[DebiasingTask], list[int]]:
    """A task for every network (and fold of held-out terms), and the seeds of their networks."""
    if config.real:
        real = prepare_real(config, (), training_key)
        return real.tasks, real.task_seeds
    setup = prepare(config)
    return setup.tasks, setup.seeds


def _by_policy(
    config: Config,
    world: World,
    training: Sequence[DebiasingTask],
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
) -> list[Result]:
    """A policy's edits without a reward evaluation, and with some."""
    options = PolicyTraining(
        updates=config.updates,
        tasks=min(8, len(training)),
        trials=32,
        examples=None,  # counterfactuals belong together
    )
    memory, announce = memory_budget(config), announcer(f"policy {world}")
    trainer = PolicyTrainer.of(options, world, [training], memory=memory, announce=announce)
    policy = train_policy(run_folder(config), world, trainer, config.seed)
    keys = method_keys(seeds)
    results = []
    for budget in (0, config.budget):
        found = edit_many(replace(policy.editor, adaptation=budget), tasks, keys)
        result = evaluated(f"policy-{world}", found, tasks, fairness_evaluation(tasks[0]))
        results.append(replace(result, factors={"budget": budget}))
    return results


def _write(config: Config, rows: Sequence[Row]) -> None:
    lines = [
        "# Learning to edit: identity bias",
        "",
        f"Policies trained on {config.training_networks} classifiers; {config.seeds} others edited "
        "without a reward evaluation, and with some. Test comments; sentence frames no reward has "
        "seen; `held out`: identity terms no reward has seen. Means with 95 % t-intervals over "
        "classifiers.",
        "",
        markdown_table(rows, COLUMNS),
        "",
    ]
    text = "\n".join(lines)
    atomic_write_text(run_folder(config) / "report.md", text)
    write_summary(run_folder(config), "transfer-bias", as_json(config), rows)
    print(text)
