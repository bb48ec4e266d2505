"""The course of the bias-mitigation experiment: train, search, compare, judge, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.bias_mitigation.config import Config, reward_function
from experiments.bias_mitigation.report import write_report
from experiments.common.options import run_folder
from experiments.common.searching import Result, check_searches, search_world
from experiments.common.settings import TUNED_ON_COMMENTS
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.synthetic import identity_corpus, oracle_scores
from modeledit_jax.data.images.datasets import default_cache_dir
from modeledit_jax.editors.editor import Cost
from modeledit_jax.evaluation.auc import group_aucs
from modeledit_jax.evaluation.fairness import (
    equal_error_threshold,
    equality_differences,
    error_rates,
    power_mean,
)
from modeledit_jax.run.checkpoint import cached_tree
from modeledit_jax.run.folder import as_json
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.text_classifiers import LEARNED, TRAINING, make_text_classifier
from modeledit_jax.subjects.tfidf import tfidf_scores
from modeledit_jax.subjects.training import TrainingConfig, train_classifiers
from modeledit_jax.tasks.debiasing import DebiasingTask, mitigate_bias
from modeledit_jax.tasks.debiasing_metrics import evaluated_roles
from modeledit_jax.tasks.unlearning_metrics import role_outputs
from modeledit_jax.types import Array, Examples


@dataclass(frozen=True)
class Setup:
    """What all editors of the experiment share."""

    config: Config
    data: CommentData
    module: nn.Module
    training: TrainingConfig
    cache: Path
    tasks: list[DebiasingTask]  # one per seed
    seeds: list[int]
    notes: list[str]  # what the reader of the report has to know of the run

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles and suites that every classifier is judged on."""
        return evaluated_roles(self.tasks[0])


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    check_searches(config)
    setup = prepare(config)
    unedited = outputs_of(setup, [task.subject.params for task in setup.tasks])
    results = [Result("original", unedited, [Cost()] * len(unedited))]
    for world in config.worlds:
        results += search_world(
            config, world, setup.tasks, setup.roles, fairness_course, TUNED_ON_COMMENTS
        )
    if config.baselines:
        from experiments.bias_mitigation.baselines import compare
        from experiments.bias_mitigation.oracle import threshold_oracle

        results += compare(setup, results)
        oracle = threshold_oracle(setup, results[0])
        results += [] if oracle is None else [oracle]
    results += references(setup)
    data = replace(setup.data, notes=tuple(setup.notes))
    write_report(config, data, setup.tasks, setup.seeds, results)
    return run_folder(config) / "report.md"


def prepare(config: Config) -> Setup:
    """Loads the comments, trains the subjects or takes them from the cache, states the tasks."""
    cache = config.cache_dir or default_cache_dir()
    data = load(config)
    module = make_text_classifier(config.subject, len(data.vocabulary), data.vectors)
    training = replace(TRAINING[config.subject], **({} if data.vectors is not None else LEARNED))
    if config.epochs is not None:
        training = replace(training, epochs=config.epochs)
    seeds = list(range(config.seed, config.seed + config.seeds))
    setup = Setup(config, data, module, training, cache, [], seeds, list(data.notes))
    for seed in tqdm(seeds, desc="train subjects"):
        subject = Subject(params=train_cached(setup, seed), apply=flax_apply(module))
        setup.tasks.append(
            mitigate_bias(subject, data, site=config.site, reward=reward_function(config))
        )
    return setup


def load(config: Config) -> CommentData:
    """The comments named on the command line."""
    if config.dataset == "synthetic":
        return identity_corpus(cues=config.cues)
    from modeledit_jax.data.comments.datasets import load_comments  # slow to import

    return load_comments(config.dataset, size=config.size, cache_dir=config.cache_dir)


def train_cached(setup: Setup, seed: int, weights: Array | None = None, name: str = "") -> Any:
    """Trains a network with the experiment's recipe, or takes it from the cache.

    Args:
      bench: data, network and recipe.
      seed: of the network.
      weights: of the training comments, ``[N]``; None: ones.
      name: of the weights, for the cache.
    """
    train = setup.data.roles["train"]
    key = {
        "module": repr(setup.module),
        "training": as_json(setup.training),
        "data": setup.data.fingerprint,
        "seed": seed,
        "weights": name,
    }

    def build() -> Any:
        examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
        keys = jax.random.split(jax.random.key(seed), 1)
        own = None if weights is None else jnp.asarray(weights)[None]
        return train_classifiers(setup.module, examples, setup.training, keys, own)

    trained = cached_tree(setup.cache / "subjects", key, build)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trained)


def outputs_of(setup: Setup, params: Sequence[Any]) -> list[dict[str, np.ndarray]]:
    """Outputs of one network per task on all judged roles."""
    return [
        role_outputs(task, own, setup.roles) for task, own in zip(setup.tasks, params, strict=True)
    ]


def fairness_course(outputs: Array, targets: Any, weights: Mapping[str, Array]) -> dict[str, Array]:
    """Progress of an edit on one role, at the equal error rate of the role's own comments."""
    scores, comments = outputs[:, 0], weights["comments"]
    cut = equal_error_threshold(scores, targets.label, comments)
    own = weights["counterfactuals"]
    rates = error_rates(scores, targets.label, targets.groups, cut, own)
    differences = equality_differences(rates)
    aucs = group_aucs(scores, targets.label, targets.groups, own)
    return {
        "fped": differences.fped,
        "fned": differences.fned,
        "bpsn_m5": power_mean(aucs.bpsn),
        "accuracy": error_rates(scores, targets.label, targets.groups, cut, comments).accuracy,
    }


def references(setup: Setup) -> list[Result]:
    """Classifiers to read the others beside: TF-IDF regression and, where known, Bayes' rule."""
    sets = {role: np.asarray(setup.tasks[0].roles[role].x) for role in setup.roles}
    train = setup.data.roles["train"]
    scores = dict(zip(sets, tfidf_scores(train.tokens, train.label, *sets.values()), strict=True))
    found = {"tfidf": scores}
    if setup.data.name == "synthetic":
        for name, biased in (("fair-oracle", False), ("biased-oracle", True)):
            found[name] = {
                role: oracle_scores(setup.data, replace(train, tokens=tokens), biased=biased)
                for role, tokens in sets.items()
            }
    number = len(setup.tasks)
    return [
        Result(
            name,
            [{role: z[:, None].astype(np.float32) for role, z in own.items()}] * number,
            [Cost()] * number,
        )
        for name, own in found.items()
    ]
