"""The bias-mitigation experiment: train, run all methods, compare, report."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.bias_mitigation.config import (
    CommentOptions,
    Config,
    family_of,
    reward_function,
    reward_weights,
)
from experiments.bias_mitigation.oracle import threshold_oracle
from experiments.bias_mitigation.other_classifiers import under_other_classifiers
from experiments.bias_mitigation.real import prepare_real, tfidf_on_words
from experiments.bias_mitigation.report import write_report
from experiments.bias_mitigation.suite_report import write_suite_report
from experiments.common.methods import (
    Evaluation,
    Method,
    Result,
    check_methods,
    evaluated,
    make_methods,
    method_keys,
    run_methods,
)
from experiments.common.networks import CachedTraining
from experiments.common.options import ActionOptions, open_mesh, run_folder
from experiments.common.sizes import check_search_memory, site_shapes
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.synthetic import identity_corpus, oracle_scores
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.editors.debiasing.ablation import RandomEdit
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.evaluation.forgetting import relative_edit_size
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.text_classifiers import LEARNED, TRAINING, make_text_classifier
from modeledit_jax.subjects.tfidf import tfidf_scores
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.tasks.debiasing import DebiasingTask, mitigate_bias
from modeledit_jax.tasks.debiasing_metrics import evaluated_roles, fairness_curves
from modeledit_jax.tasks.debiasing_suites import suite_curves
from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.types import Examples, Key


@dataclass(frozen=True)
class Setup:
    """What all editors of the experiment share."""

    config: CommentOptions
    data: CommentData
    module: nn.Module
    training: TrainingConfig
    cache: Path
    tasks: list[DebiasingTask]  # one per seed
    seeds: list[int]

    @cached_property
    def training_kept(self) -> CachedTraining:
        """The classifiers in the cache."""
        train = self.data.roles["train"]
        examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
        return CachedTraining(
            self.module, self.training, examples, self.cache, self.data.fingerprint
        )


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    if config.real:
        return _run_real(config)
    setup = prepare(config, check_methods(config, "bias_mitigation"))
    context = {"module": setup.module, "training": setup.training}
    methods = make_methods(config, "bias_mitigation", **context)
    chosen = [method for method in methods if method.name != "original"]
    evaluation = fairness_evaluation(setup.tasks[0])
    results, notes = run_all(config, setup.tasks, setup.seeds, chosen, evaluation)
    oracle, why = threshold_oracle(setup.tasks, results[0])
    results += oracle + references(setup)
    data = replace(setup.data, notes=(*setup.data.notes, *notes, *why))
    write_report(config, data, setup.tasks, setup.seeds, results, methods)
    return run_folder(config) / "report.md"


def _run_real(config: Config) -> Path:
    """The same on real comments with contexts of their own, for every fold of held-out terms."""
    family = family_of(config)
    setup = prepare_real(config, check_methods(config, family), training_key)
    context = {"module": setup.module, "training": setup.training}
    methods = make_methods(config, family, **context)
    evaluation = replace(fairness_evaluation(setup.tasks[0]), measure=suite_curves)
    chosen = [method for method in methods if method.name != "original"]
    results, notes = run_all(config, setup.tasks, setup.task_seeds, chosen, evaluation)
    results += under_other_classifiers(setup, results, evaluation)
    write_suite_report(config, setup, [*results, tfidf_on_words(setup)], methods, notes)
    return run_folder(config) / "report.md"


def run_all(
    config: Config,
    tasks: Sequence[DebiasingTask],
    seeds: Sequence[int],
    methods: Sequence[Method],
    evaluation: Evaluation,
) -> tuple[list[Result], list[str]]:
    """The unedited networks and all methods on them, and why some were left out.

    Random edits are made last, for they get the size of what reinforcement learning has found.
    """
    random = [(m.name, m.editor) for m in methods if isinstance(m.editor, RandomEdit)]
    others = [method for method in methods if not isinstance(method.editor, RandomEdit)]
    found, notes = run_methods(config, others, tasks, seeds, evaluation)
    sizes = learned_sizes(tasks, found)
    for name, editor in random:
        edits = [
            replace(editor, size=size).edit(task, key)
            for task, key, size in zip(tasks, method_keys(seeds), sizes, strict=True)
        ]
        found.append(evaluated(name, edits, tasks, evaluation))
    names = [method.name for method in methods]
    return [
        unedited(tasks, evaluation),
        *sorted(found, key=lambda result: names.index(result.method)),
    ], notes


def fairness_evaluation(task: DebiasingTask) -> Evaluation:
    """How results on tasks like this one are evaluated."""
    roles = evaluated_roles(task)
    return Evaluation(partial(role_outputs, roles=roles), roles, fairness_curves)


def unedited(tasks: Sequence[DebiasingTask], evaluation: Evaluation) -> Result:
    """The networks as they are."""
    outputs = [evaluation.outputs(task, task.subject.params) for task in tasks]
    return Result("original", outputs, [Cost()] * len(outputs))


def learned_sizes(tasks: Sequence[DebiasingTask], results: Sequence[Result]) -> list[float]:
    """Mean size of PPO's edits of each task; 0.5 where PPO did not run."""
    learned = [result.leaves for result in results if result.learned and result.leaves]
    return [
        float(
            np.mean([relative_edit_size(task.leaves, leaves[index]) for leaves in learned])
            if learned
            else 0.5
        )
        for index, task in enumerate(tasks)
    ]


def prepare(config: CommentOptions, searches: Sequence[SearchEditor] = ()) -> Setup:
    """Loads the comments, trains the subjects or takes them from the cache, states the tasks.

    Args:
      config: options.
      searches: that will edit the tasks.

    Raises:
      ValueError: what is to be edited is not there, or a search does not fit into memory; found
        before anything is trained.
    """
    reward, kind = reward_function(config), str(config.subject)
    cache = config.cache_dir or default_cache_dir()
    data = load(config)
    module = make_text_classifier(kind, len(data.vocabulary), data.vectors)
    training = TRAINING[kind]
    if data.vectors is None:
        training = replace(training, **LEARNED)
    if config.epochs is not None:
        training = replace(training, epochs=config.epochs)
    shapes = site_shapes(module, data.roles["train"].tokens, config.site)
    if isinstance(config, ActionOptions):
        check_search_memory(config, searches, shapes, config.seeds)
    seeds = list(range(config.seed, config.seed + config.seeds))
    setup = Setup(config, data, module, training, cache, [], seeds)
    identities = [{"seed": seed} for seed in seeds]
    setup.training_kept.train_ahead(
        open_mesh(config), [training_key(seed) for seed in seeds], identities
    )
    for seed in tqdm(seeds, desc="train subjects"):
        subject = Subject(params=trained(setup, seed), apply=flax_apply(module))
        setup.tasks.append(
            mitigate_bias(
                subject, data, site=config.site, reward=reward, weights=reward_weights(config)
            )
        )
    return setup


def load(config: CommentOptions) -> CommentData:
    """The comments named on the command line."""
    if config.dataset == "synthetic":
        return identity_corpus(cues=config.cues)
    from modeledit_jax.data.comments.datasets import load_comments  # slow to import

    return load_comments(config.dataset, size=config.size, cache_dir=config.cache_dir)


def trained(setup: Setup, seed: int) -> Any:
    """The classifier of a seed, trained with the experiment's recipe."""
    return setup.training_kept.network(training_key(seed), seed=seed)


def training_key(seed: int) -> Key:
    """Of the network of a seed."""
    return jax.random.split(jax.random.key(seed), 1)[0]


def references(setup: Setup) -> list[Result]:
    """Classifiers to read the others beside: TF-IDF regression and, where known, Bayes' rule."""
    task = setup.tasks[0]
    sets = {role: np.asarray(task.roles[role].x) for role in evaluated_roles(task)}
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
            [{role: z[:, None].astype(np.float32) for role, z in outputs.items()}] * number,
            [Cost()] * number,
        )
        for name, outputs in found.items()
    ]
