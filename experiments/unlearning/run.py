"""The course of the unlearning experiment: train, retrain, search, judge, report."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.common.image_subjects import Recipe, recipe_of, train_cached, trained_subject
from experiments.common.options import run_folder
from experiments.common.searching import Result, check_searches, search_world
from experiments.unlearning.config import Config, reward_function
from experiments.unlearning.report import write_report
from modeledit_jax.data.images.datasets import default_cache_dir, load_images
from modeledit_jax.data.images.splits import split_images
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.unlearning.references import LogitMask, gradient_steps
from modeledit_jax.subjects.image_classifiers import make_classifier
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_classes, forget_samples
from modeledit_jax.tasks.unlearning_metrics import EVALUATED_ROLES, role_outputs


@dataclass(frozen=True)
class Setup:
    """What all editors of the experiment share."""

    config: Config
    recipe: Recipe
    tasks: list[Task]  # seeds × requests, seed by seed
    seeds: list[int]  # of each task


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    check_searches(config)
    setup = prepare(config)
    results = unedited(setup)
    results += [retrain(setup, replicate) for replicate in range(1, config.retrains + 1)]
    for world in config.worlds:
        results += search_world(config, world, setup.tasks, EVALUATED_ROLES)
    write_report(config, setup.tasks, setup.seeds, results)
    return run_folder(config) / "report.md"


def unedited(setup: Setup) -> list[Result]:
    """The original networks and, where classes are to be forgotten, the masked ones."""
    by_subject: dict[int, dict[str, np.ndarray]] = {}
    originals, masked, costs = [], [], []
    for task in tqdm(setup.tasks, desc="original", leave=False):
        if id(task.subject) not in by_subject:  # tasks of one subject share its outputs
            by_subject[id(task.subject)] = role_outputs(task, task.subject.params)
        originals.append(by_subject[id(task.subject)])
        if task.forget_classes:
            edit = LogitMask().edit(task, jax.random.key(0))
            masked.append(role_outputs(task, edit.params))
            costs.append(edit.cost)
    results = [Result("original", originals, [Cost()] * len(originals))]
    return results + ([Result("logit-mask", masked, costs)] if masked else [])


def prepare(config: Config) -> Setup:
    """Loads the data, trains the subjects or takes them from the cache, and states the tasks."""
    cache = config.cache_dir or default_cache_dir()
    data = load_images(config.dataset, npz_path=config.npz_path, cache_dir=config.cache_dir)
    splits = split_images(data)
    module = make_classifier(config.subject, data.num_classes)
    training = recipe_of(config.subject, splits)
    if config.epochs is not None:
        training = replace(training, epochs=config.epochs)
    recipe = Recipe(module, training, splits, data.fingerprint, cache)
    setup = Setup(config, recipe, [], [])
    reward = reward_function(config)
    requests = parse_requests(config.forget_class, data.num_classes)
    progress = tqdm(range(config.seed, config.seed + config.seeds), desc="train subjects")
    for seed in progress:
        subject = trained_subject(recipe, seed)
        options: dict[str, Any] = {"site": config.site, "reward": reward}
        if config.forget_samples:
            tasks = [forget_samples(subject, splits, config.forget_samples, **options)]
        else:
            tasks = [forget_classes(subject, splits, request, **options) for request in requests]
        setup.tasks.extend(tasks)
        setup.seeds.extend([seed] * len(tasks))
    return setup


def parse_requests(text: str, num_classes: int) -> list[tuple[int, ...]]:
    """Reads ``--forget-class``: the classes of each task.

    Raises:
      ValueError: not 'all' and no integers.
    """
    if text == "all":
        return [(index,) for index in range(num_classes)]
    try:
        return [tuple(int(part) for part in text.split(","))]
    except ValueError:
        raise ValueError(
            f"--forget-class must be a class, classes joined by commas, or 'all'; got {text!r}"
        ) from None


def retrain(setup: Setup, replicate: int) -> Result:
    """Retrains every task's network from scratch without what is to be forgotten."""
    name = "retrain" if replicate == 1 else f"retrain-{replicate}"
    outputs, costs = [], []
    steps = gradient_steps(setup.recipe.training, len(setup.recipe.splits.train))
    for task, seed in tqdm(
        list(zip(setup.tasks, setup.seeds, strict=True)), desc=name, leave=False
    ):
        key = jax.random.fold_in(jax.random.key(seed), 1000 * replicate)
        weights = jnp.asarray(task.roles["train"].weights["retain"])[None]
        identity = {"seed": seed, "replicate": replicate, "task": task.name}
        if setup.config.forget_samples:
            identity["samples"] = list(setup.config.forget_samples)
        trained = train_cached(setup.recipe, key[None], weights, **identity)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trained)
        outputs.append(role_outputs(task, params))
        # Taken from the cache, or not: its time says nothing about the method.
        costs.append(Cost(gradient_steps=steps, seconds=math.nan))
    return Result(name, outputs, costs)
