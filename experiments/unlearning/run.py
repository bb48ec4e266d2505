"""The unlearning experiment: train, retrain, run all methods, report."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.common.image_subjects import (
    Recipe,
    retrained,
    train_subjects_ahead,
    trained_subject,
)
from experiments.common.methods import (
    Evaluation,
    Method,
    Result,
    check_methods,
    make_methods,
    run_methods,
)
from experiments.common.options import ActionOptions, open_mesh, run_folder
from experiments.common.sizes import check_search_memory, site_shapes
from experiments.unlearning.config import Config, EditorOptions, ForgetOptions, reward_function
from experiments.unlearning.report import write_report
from experiments.unlearning.scenarios import fitting, scenarios_of
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import ROLES, Splits, split_images
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.editors.unlearning.references import LogitMask
from modeledit_jax.subjects.image_classifiers import make_classifier
from modeledit_jax.subjects.training import gradient_steps, image_recipe
from modeledit_jax.tasks.deep_reward import deep_reward
from modeledit_jax.tasks.outputs import SiteOutputs, role_outputs
from modeledit_jax.tasks.reference_reward import gap_to_reference
from modeledit_jax.tasks.unlearning import UnlearningTask, forget_classes, forget_samples
from modeledit_jax.tasks.unlearning_metrics import EVALUATED_ROLES
from modeledit_jax.tasks.unlearning_scenarios import Scenario
from modeledit_jax.types import Array, Examples, Key

ALWAYS = ("original", "logit-mask", "retrain", "retrain-2")
"""Methods that others are read beside: they are run whether they are named or not."""


@dataclass(frozen=True)
class Setup:
    """What all editors of the experiment share."""

    config: ForgetOptions
    recipe: Recipe
    tasks: list[UnlearningTask]  # seeds × requests, seed by seed
    seeds: list[int]  # of each task


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    setup, methods = prepare_methods(config)
    results = references(config, setup)
    setup = rewarded(config, setup, results[-1])
    edits, notes = run_methods(config, methods, setup.tasks, setup.seeds, make_evaluation())
    write_report(config, setup.tasks, setup.seeds, results + edits, methods, notes)
    return run_folder(config) / "report.md"


def prepare_methods(config: EditorOptions) -> tuple[Setup, list[Method]]:
    """The tasks, and the methods that are named beside those that are always run.

    Raises:
      ValueError, FileNotFoundError: as `prepare` and `make_methods`.
    """
    named = replace(config, methods=tuple(m for m in config.methods if m not in ALWAYS))
    setup = prepare(config, check_methods(named, "unlearning"))
    known: dict[str, Any] = {"module": setup.recipe.module, "training": setup.recipe.training}
    methods = make_methods(named, "unlearning", scope=config.scope, **known)
    return setup, fitting(config, methods)


def references(config: EditorOptions, setup: Setup) -> list[Result]:
    """What editors are read beside: unedited, masked and retrained networks."""
    return unedited(setup) + [retrain(setup, number + 1) for number in range(config.retrains)]


def rewarded(config: EditorOptions, setup: Setup, last: Result) -> Setup:
    """The setup with the rewards that the options ask for.

    Args:
      config: options.
      setup: with the rewards on outputs.
      last: of the retrained networks, beside the one that edits are measured against.
    """
    given = list(last.networks) if config.toward_retrain else [None] * len(setup.tasks)
    prototypes, relearning = config.prototype_penalty, config.relearning_penalty
    tasks = []
    for task, network in zip(setup.tasks, given, strict=True):
        if network is not None:
            task = replace(task, reward=gap_to_reference(task, network))
        if prototypes or relearning:
            reward = deep_reward(
                task,
                prototypes=prototypes,
                relearning=relearning,
                layers=config.penalized_layers,
                reference=network,
            )
            task = replace(task, reward=reward)
        tasks.append(task)
    return replace(setup, tasks=tasks)


def unedited(setup: Setup) -> list[Result]:
    """The original networks and, where classes are to be forgotten, the masked ones."""
    by_subject: dict[int, dict[str, np.ndarray]] = {}
    originals, masked = [], []
    for task in tqdm(setup.tasks, desc="original", leave=False):
        if id(task.subject) not in by_subject:  # tasks of one subject share its outputs
            by_subject[id(task.subject)] = _outputs(task, task.subject.params)
        originals.append(by_subject[id(task.subject)])
        if task.forget_classes:
            masked.append(LogitMask().edit(task, jax.random.key(0)))
    networks = [task.subject.params for task in setup.tasks]
    results = [Result("original", originals, [Cost()] * len(originals), networks=networks)]
    if masked:
        networks = [edit.params for edit in masked]
        outputs = list(map(_outputs, setup.tasks, networks))
        costs = [edit.cost for edit in masked]
        results.append(Result("logit-mask", outputs, costs, networks=networks))
    return results


def prepare(config: ForgetOptions, searches: Sequence[SearchEditor] = ()) -> Setup:
    """Loads the data, trains the subjects or takes them from the cache, and states the tasks.

    Args:
      config: options.
      searches: that will edit the tasks.

    Raises:
      ValueError: what is to be edited or forgotten is not there, or a search does not fit into
        memory; found before anything is trained.
    """
    reward = reward_function(config)
    cache = config.cache_dir or default_cache_dir()
    data = load_images(config.dataset, npz_path=config.npz_path, cache_dir=config.cache_dir)
    splits = split_images(data)
    check_samples(config, len(splits.train))
    scenarios = scenarios_of(config, splits)
    splits = splits if scenarios else on_device(splits)
    requests = [()] if config.forget_samples else config.requests(data.num_classes)
    recipe = make_recipe(config, data.fingerprint, splits, scenarios, cache)
    setup = Setup(config, recipe, [], [])
    shapes = site_shapes(recipe.module, splits.train.x, config.site)
    if isinstance(config, ActionOptions):
        count = len(scenarios) or len(requests)
        check_search_memory(config, searches, shapes, config.seeds * count)
    seeds = range(config.seed, config.seed + config.seeds)
    train_subjects_ahead(recipe, seeds, open_mesh(config))
    for seed in tqdm(seeds, desc="train subjects"):
        subject = trained_subject(recipe, seed)
        options: dict[str, Any] = {"site": config.site, "reward": reward}
        if scenarios:
            tasks = [scenario.task(subject, **options) for scenario in scenarios]
        elif config.forget_samples:
            tasks = [forget_samples(subject, splits, config.forget_samples, **options)]
        else:
            tasks = [forget_classes(subject, splits, request, **options) for request in requests]
        setup.tasks.extend(tasks)
        setup.seeds.extend([seed] * len(tasks))
    return setup


def on_device(splits: Splits) -> Splits:
    """The data with the inputs of every role where networks are run, copied there once for all."""
    roles: dict[str, Any] = {
        role: Examples(jnp.asarray(getattr(splits, role).x), getattr(splits, role).y)
        for role in ROLES
    }
    return replace(splits, **roles)


def make_recipe(
    config: ForgetOptions,
    fingerprint: str,
    splits: Splits,
    scenarios: Sequence[Scenario],
    cache: Path,
) -> Recipe:
    """How the networks are trained; on the data of the scenarios, where these have their own."""
    if scenarios and scenarios[0].data:
        splits = scenarios[0].splits
        fingerprint = f"{fingerprint}-{scenarios[0].data}"
    module = make_classifier(config.subject, splits.num_classes)
    training = image_recipe(module, len(splits.train))
    if config.epochs is not None:
        training = replace(training, epochs=config.epochs)
    return Recipe(module, training, splits, fingerprint, cache)


def check_samples(config: ForgetOptions, size: int) -> None:
    """Raises ValueError for ``--forget-samples`` that the training set ``[size]`` lacks."""
    if config.forget_samples and (outside := max(config.forget_samples)) >= size:
        raise ValueError(
            f"--forget-samples {outside}: sample indices are rows of the training set, 0 to "
            f"{size - 1}"
        )


def retrain(setup: Setup, replicate: int) -> Result:
    """Retrains every task's network from scratch without what is to be forgotten."""
    name = "retrain" if replicate == 1 else f"retrain-{replicate}"
    outputs, costs, networks = [], [], []
    steps = gradient_steps(setup.recipe.training, len(setup.recipe.splits.train))
    trainings = [
        _retraining(setup, task, seed, replicate)
        for task, seed in zip(setup.tasks, setup.seeds, strict=True)
    ]
    keys, weights, identities = zip(*trainings, strict=True)
    kept = setup.recipe.training_kept
    kept.train_ahead(open_mesh(setup.config), keys, identities, weights)
    for task, (key, weight, identity) in tqdm(
        list(zip(setup.tasks, trainings, strict=True)), desc=name, leave=False
    ):
        networks.append(retrained(setup.recipe, key, weight, **identity))
        outputs.append(_outputs(task, networks[-1]))
        # Taken from the cache, or not: its time says nothing about the method.
        costs.append(Cost(gradient_steps=steps, seconds=math.nan))
    return Result(name, outputs, costs, networks=networks)


def _retraining(
    setup: Setup, task: UnlearningTask, seed: int, replicate: int
) -> tuple[Key, Array, dict[str, Any]]:
    """Key of a training, weights ``[N]`` of the examples, and what names it in the cache."""
    key = jax.random.fold_in(jax.random.key(seed), 1000 * replicate)
    identity = {"seed": seed, "replicate": replicate, "task": task.name}
    if setup.config.forget_samples:
        identity["samples"] = list(setup.config.forget_samples)
    return key, jnp.asarray(task.roles["train"].weights["retain"]), identity


_outputs = partial(role_outputs, roles=EVALUATED_ROLES)


def make_evaluation() -> Evaluation:
    """How the edits of one run are evaluated."""
    return Evaluation(partial(SiteOutputs(), roles=EVALUATED_ROLES), EVALUATED_ROLES)
