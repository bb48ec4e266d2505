"""Real comments with contexts of their own: data of every fold, classifiers, tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.bias_mitigation.config import CommentOptions, reward_function, reward_weights
from experiments.common.methods import Result
from experiments.common.networks import CachedTraining
from experiments.common.options import ActionOptions, open_mesh
from experiments.common.sizes import check_search_memory, site_shapes
from modeledit_jax.data.comments.comments import CommentData
from modeledit_jax.data.comments.views import texts_of, with_features, with_layer, with_words
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.search.search import SearchEditor
from modeledit_jax.run.named_models import model_folder
from modeledit_jax.run.text_features import TextFeatures
from modeledit_jax.subjects.fixed_array import FixedArray
from modeledit_jax.subjects.image_classifiers import MLP
from modeledit_jax.subjects.state_classifier import StateClassifier
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.text_classifiers import LEARNED, TRAINING, make_text_classifier
from modeledit_jax.subjects.tfidf import tfidf_scores
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.tasks.debiasing import DebiasingTask, mitigate_bias
from modeledit_jax.tasks.debiasing_metrics import evaluated_roles
from modeledit_jax.types import Examples, Key

HIDDEN = TrainingConfig(
    epochs=2, batch_size=128, learning_rate=1e-3, weight_decay=1e-2, balanced=True
)
"""How a head on hidden states is trained.

More epochs rank comments of ``select`` no better and learn those of ``train`` by heart; then error
rates on contexts of ``train``, which the reward holds, tell nothing of those of other comments.
"""

NAME = "smollm2-135m"
"""The language model if none is named."""


@dataclass(frozen=True)
class Fold:
    """One third of the terms held out: the comments, and a task for every network."""

    number: int
    data: CommentData
    tasks: list[DebiasingTask]


@dataclass(frozen=True)
class RealSetup:
    """What all editors on real comments share.

    Attributes:
      texts: the comments as numbers of texts, of the first fold.
      module, training: of the classifiers, which are the same in all folds.
      seeds: of the networks.
      folds: in the order of the command line.
    """

    texts: CommentData
    module: nn.Module
    training: TrainingConfig
    seeds: list[int]
    folds: list[Fold]

    @property
    def tasks(self) -> list[DebiasingTask]:
        """Of all folds, fold after fold."""
        return [task for fold in self.folds for task in fold.tasks]

    @property
    def task_seeds(self) -> list[int]:
        """The seed of the network of each of `tasks`."""
        return self.seeds * len(self.folds)


def prepare_real(
    config: CommentOptions,
    searches: Sequence[SearchEditor],
    key_of: Callable[[int], Key],
    nested: bool = False,
) -> RealSetup:
    """Loads the comments, computes features, trains the classifiers, states the tasks.

    Args:
      config: options.
      searches: that will edit the tasks.
      key_of: the key of the training of the network of a seed.
      nested: see `load_with_contexts`.

    Raises:
      ValueError, FileNotFoundError: see `load_with_contexts` and `TextFeatures`; or a site that is
        not there, or a search that does not fit into memory, before anything is trained.
    """
    from modeledit_jax.data.comments.real_comments import load_with_contexts  # slow to import

    cache = config.cache_dir or default_cache_dir()
    reward_function(config)  # of the user: imported before there is work to lose
    features = text_features(config) if config.subject == "hidden" else None
    numbered = load_with_contexts(
        config.dataset,
        cache_dir=config.cache_dir,
        size=config.size,
        balanced=config.balanced,
        folds=config.folds,
        nested=nested,
    )
    seen = _seen(config, numbered, features)
    data, module, training = seen.data, seen.module, seen.training
    train = data[0].roles["train"]
    shapes = site_shapes(module, train.tokens, config.site)
    seeds = list(range(config.seed, config.seed + config.seeds))
    if isinstance(config, ActionOptions):
        check_search_memory(config, searches, shapes, config.seeds * len(config.folds))
    # Of what is trained on and of nothing else: networks are the same in all folds.
    trained_on = CommentData(data[0].name, (), (), (), {"train": train}, {})
    examples = Examples(jnp.asarray(train.tokens), jnp.asarray(train.label))
    kept = CachedTraining(module, training, examples, cache, trained_on.fingerprint)
    kept.train_ahead(
        open_mesh(config), [key_of(seed) for seed in seeds], [{"seed": seed} for seed in seeds]
    )
    apply = flax_apply(seen.edited)
    subjects = [
        Subject(params=kept.network(key_of(seed), seed=seed), apply=apply)
        for seed in tqdm(seeds, desc="train subjects")
    ]
    folds = []
    for number, own in zip(config.folds, data, strict=True):
        tasks = [debias(config, subject, own, number) for subject in subjects]
        folds.append(Fold(number, own, tasks))
    return RealSetup(numbered[0], module, training, seeds, folds)


def debias(config: CommentOptions, subject: Subject, data: CommentData, fold: int) -> DebiasingTask:
    """The task of one network under the reward of the command line."""
    return mitigate_bias(
        subject,
        data,
        site=config.site,
        reward=reward_function(config),
        weights=reward_weights(config),
        name=f"fold-{fold}",
    )


def text_features(config: CommentOptions) -> TextFeatures:
    """The hidden states that the command line names, of a model that is at hand.

    Raises:
      FileNotFoundError, ValueError: the model is not there, or has fewer layers.
    """
    folder = model_folder(config.model or NAME, config.cache_dir)
    cache = config.cache_dir or default_cache_dir()
    found = TextFeatures(folder, cache, config.layer, config.pooling, config.tokens)
    found.check()
    return found


@dataclass(frozen=True)
class _Seen:
    """What the classifiers see."""

    data: list[CommentData]  # of all folds
    module: nn.Module  # as it is trained
    edited: nn.Module  # as it is edited; of the same parameters
    training: TrainingConfig


def _seen(
    config: CommentOptions, numbered: list[CommentData], features: TextFeatures | None
) -> _Seen:
    training = HIDDEN
    if features is None:
        data = [with_words(own) for own in numbered]
        module = edited = make_text_classifier(str(config.subject), len(data[0].vocabulary))
        training = replace(TRAINING[str(config.subject)], **LEARNED, balanced=True)
    elif config.edits_model:
        states = features(texts_of(numbered[0]), inputs=True)
        parts = states.pooled, states.inputs, features.kernel
        views = [with_layer(own, *parts) for own in numbered]
        data, scale = [own for own, _ in views], views[0][1]
        edited = StateClassifier(FixedArray(features.kernel), FixedArray(scale))
        module = edited.clone(trains_model=False)
    else:
        states = features(texts_of(numbered[0]))
        data = [with_features(own, states.pooled) for own in numbered]
        module = edited = MLP(num_classes=1)
    if config.epochs is not None:
        training = replace(training, epochs=config.epochs)
    return _Seen(data, module, edited, training)


def tfidf_on_words(setup: RealSetup) -> Result:
    """Class-weighted logistic regression on TF-IDF weights of the same words, for every task."""
    words = with_words(setup.texts)
    train, roles = words.roles["train"], evaluated_roles(setup.tasks[0])
    kinds = (words.roles, words.counterfactuals, words.suites)
    sets = {
        role: [kind[role].tokens for kind in kinds if role in kind] for role in roles
    }  # comments first, as in a task
    scores = tfidf_scores(
        train.tokens,
        train.label,
        *(np.concatenate(parts) for parts in sets.values()),
        balanced=True,
    )
    outputs = {role: z[:, None].astype(np.float32) for role, z in zip(sets, scores, strict=True)}
    number = len(setup.tasks)
    return Result("tfidf", [outputs] * number, [Cost()] * number)
