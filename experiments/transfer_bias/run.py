"""Trains policies on some classifiers, edits others, and writes the table."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.bias_mitigation.config import family_of
from experiments.bias_mitigation.real import RealSetup, prepare_real
from experiments.bias_mitigation.rows import make_rows
from experiments.bias_mitigation.run import (
    fairness_evaluation,
    prepare,
    training_key,
    unedited,
)
from experiments.bias_mitigation.suite_gains import CONTROL
from experiments.bias_mitigation.suite_report import compare, suite_rows
from experiments.bias_mitigation.suite_text import comparison_lines
from experiments.common.memory import announcer
from experiments.common.methods import Result, evaluated, method_keys
from experiments.common.options import FIRST_TRAINING_SEED, World, memory_budget, run_folder
from experiments.common.policies import train_policy
from experiments.transfer_bias.config import Config
from modeledit_jax.editors.policy.training import PolicyTrainer, PolicyTraining
from modeledit_jax.presets.preset import load_preset
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
    of_training = replace(config, seed=FIRST_TRAINING_SEED, seeds=config.training_networks)
    if config.real:
        return _run_real(config, prepare_real(of_training, (), training_key))
    training, setup = prepare(of_training), prepare(config)
    original, *edited = _results(config, training.tasks, setup.tasks, setup.seeds)
    rows = make_rows(setup.tasks, setup.seeds, [original, *edited], original)
    _write(config, [markdown_table(rows, COLUMNS), ""], rows)
    return run_folder(config) / "report.md"


def _run_real(config: Config, training: RealSetup) -> Path:
    """The same on real comments, beside networks of another seed, with gates and intervals.

    Every fold has a policy of its own: what a fold holds out, rewards of the others show.
    """
    setup = prepare_real(config, (), training_key)
    folds = [
        _results(config, of_training.tasks, fold.tasks, setup.seeds, f"-fold-{fold.number}")
        for of_training, fold in zip(training.folds, setup.folds, strict=True)
    ]
    results = [_named(_joined(parts)) for parts in zip(*folds, strict=True)]
    tasks, seeds = setup.tasks, setup.task_seeds
    trained = load_preset(CONTROL, family_of(config)).build(
        module=setup.module, training=setup.training
    )
    again = edit_many(trained, tasks, method_keys(seeds), run_folder(config) / "edits" / CONTROL)
    results.append(evaluated(CONTROL, again, tasks, fairness_evaluation(tasks[0])))
    table = suite_rows(setup, results)
    _write(config, comparison_lines(compare(setup, results, table)), table)
    return run_folder(config) / "report.md"


def _joined(parts: Sequence[Result]) -> Result:
    """One method on the tasks of several folds, fold after fold."""
    leaves = [own for part in parts for own in part.leaves or ()]
    return replace(
        parts[0],
        outputs=[own for part in parts for own in part.outputs],
        costs=[own for part in parts for own in part.costs],
        leaves=leaves or None,
    )


def _named(result: Result) -> Result:
    """With the evaluations in its name, where there are any: suites know methods by name."""
    if not (budget := result.factors.get("budget")):
        return result
    return replace(result, method=f"{result.method}-{budget}-evaluations")


def _results(
    config: Config,
    training: Sequence[DebiasingTask],
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    suffix: str = "",
) -> list[Result]:
    """The unedited networks, and each policy's edits; ``suffix`` is of the policies' names."""
    results = [unedited(tasks, fairness_evaluation(tasks[0]))]
    for world in config.worlds:
        results += _by_policy(config, world, training, tasks, seeds, suffix)
    return results


def _by_policy(
    config: Config,
    world: World,
    training: Sequence[DebiasingTask],
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    suffix: str,
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
    policy = train_policy(run_folder(config), f"{world}{suffix}", trainer, config.seed)
    keys = method_keys(seeds)
    results = []
    for budget in (0, config.budget):
        found = edit_many(replace(policy.editor, adaptation=budget), tasks, keys)
        result = evaluated(f"policy-{world}", found, tasks, fairness_evaluation(tasks[0]))
        results.append(replace(result, factors={"budget": budget}))
    return results


def _write(config: Config, found: Sequence[str], rows: Sequence[Row]) -> None:
    """The report, with the lines that say what was found, and the table as data."""
    held_out = (
        "real contexts of test comments"
        if config.real
        else "sentence frames no reward has seen; means with 95 % t-intervals over classifiers"
    )
    lines = [
        "# Learning to edit: identity bias",
        "",
        f"Policies trained on {config.training_networks} classifiers; {config.seeds} others edited "
        f"without a reward evaluation, and with some. Test comments; {held_out}; `held out`: "
        "identity terms no reward has seen.",
        "",
        *found,
    ]
    text = "\n".join(lines)
    atomic_write_text(run_folder(config) / "report.md", text)
    write_summary(run_folder(config), "transfer-bias", as_json(config), rows)
    print(text)
