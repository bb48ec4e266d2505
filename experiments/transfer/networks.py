"""Networks and requests of the transfer experiment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import combinations

import flax.linen as nn
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.common.image_subjects import Recipe, train_subjects_ahead, trained_subject
from experiments.common.options import FIRST_TRAINING_SEED, open_mesh
from experiments.transfer.config import CLASSES, Config, Shape, read_classes, read_shape
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.data.images.datasets import ImageData, load_images
from modeledit_jax.data.images.splits import Splits, split_images
from modeledit_jax.subjects.image_classifiers import CNN, MLP, ResNet
from modeledit_jax.subjects.subject import Subject
from modeledit_jax.subjects.training import image_recipe
from modeledit_jax.tasks.deep_reward import deep_reward
from modeledit_jax.tasks.unlearning import UnlearningTask, forget_classes, unlearning_reward

REWARD = unlearning_reward()  # one object, so that all worlds are compiled for the same function


@dataclass(frozen=True)
class Family:
    """Networks of one shape on one data set."""

    recipe: Recipe
    name: str
    mesh: Mesh | None = None
    prototype_penalty: float = 0.0

    @property
    def splits(self) -> Splits:
        """The data in four roles."""
        return self.recipe.splits

    def subjects(self, seeds: Sequence[int]) -> list[Subject]:
        """The networks of some seeds, trained or from the cache."""
        train_subjects_ahead(self.recipe, seeds, self.mesh)
        return [
            trained_subject(self.recipe, seed)
            for seed in tqdm(seeds, desc=f"networks {self.name}", leave=False)
        ]

    def tasks(
        self, subjects: Sequence[Subject], requests: Sequence[int] | Sequence[tuple[int, ...]]
    ) -> list[UnlearningTask]:
        """To forget each class, or the classes of each tuple, network by network."""
        tasks = [
            forget_classes(subject, self.splits, request, reward=REWARD)
            for subject in subjects
            for request in requests
        ]
        if not (weight := self.prototype_penalty):
            return tasks
        return [replace(task, reward=deep_reward(task, prototypes=weight)) for task in tasks]


@dataclass(frozen=True)
class Networks:
    """All networks of an experiment."""

    config: Config

    def family(self, shape: str, dataset: str | None = None) -> Family:
        """The networks of a shape; of the experiment's own data set if none is named."""
        dataset = dataset or self.config.dataset
        data, splits = _data(dataset, self.config)
        folder = self.config.cache_dir or default_cache_dir()
        described = read_shape(shape)
        module = make_module(described, splits.num_classes)
        training = image_recipe(module, len(splits.train))
        if described.epochs is not None:
            training = replace(training, epochs=described.epochs)
        recipe = Recipe(module, training, splits, data.fingerprint, folder)
        name = shape if dataset == self.config.dataset else f"{dataset}-{shape}"
        return Family(recipe, name, open_mesh(self.config), self.config.prototype_penalty)

    @property
    def training_families(self) -> list[Family]:
        """The networks to train on: of every shape and data set."""
        data = (self.config.dataset, *self.config.training_data)
        return [self.family(shape, name) for name in data for shape in self.config.networks]

    @cached_property
    def held_out(self) -> list[int]:
        """The classes held out in turn."""
        if self.config.held_out == "all":
            return list(range(CLASSES))
        return read_classes(self.config.held_out)

    def seen(self, held_out: int | None) -> list[int]:
        """The classes that a policy is trained to forget; all if none is held out."""
        return [index for index in range(CLASSES) if index != held_out]

    @property
    def training_seeds(self) -> range:
        """Of the networks to train on."""
        return range(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + self.config.training_networks)

    @property
    def new_seeds(self) -> range:
        """Of the networks to edit."""
        return range(self.config.seed, self.config.seed + self.config.seeds)


@cache
def _data(name: str, config: Config) -> tuple[ImageData, Splits]:
    data = load_images(name, cache_dir=config.cache_dir)
    return data, split_images(data)


def make_module(shape: Shape, num_classes: int) -> nn.Module:
    """The network of a shape; its layers are ``fc1``, ``fc2``, …, ``head``."""
    kind = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}[shape.kind]
    return kind(num_classes=num_classes, hidden=shape.hidden, activation=shape.activation)


def draw_pairs(seed: int, classes: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Different pairs of classes, at most as many as there are."""
    every = list(combinations(classes, 2))
    order = np.random.default_rng(seed).permutation(len(every))
    return [every[index] for index in order[:count]]
