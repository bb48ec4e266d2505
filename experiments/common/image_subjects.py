"""Image classifiers to edit: trained by recipes that converge, and kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from experiments.common.networks import CachedTraining, at_once_here
from modeledit_jax.data.images.splits import Splits
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.training import TrainingConfig
from modeledit_jax.types import Array, Examples, Key, Params


@dataclass(frozen=True)
class Recipe:
    """A kind of network and how it is trained.

    Attributes:
      module: its architecture.
      training: its recipe.
      splits: its data.
      fingerprint: of the data.
      cache: folder where trained networks are kept.
    """

    module: nn.Module
    training: TrainingConfig
    splits: Splits
    fingerprint: str
    cache: Path

    @cached_property
    def training_kept(self) -> CachedTraining:
        """Its networks in the cache."""
        train = Examples(jnp.asarray(self.splits.train.x), jnp.asarray(self.splits.train.y))
        return CachedTraining(self.module, self.training, train, self.cache, self.fingerprint)


def retrained(recipe: Recipe, key: Key, weights: Array, **identity: Any) -> Params:
    """A network trained on weighted examples ``[N]``; ``identity`` names it in the cache."""
    return recipe.training_kept.network(key, weights, at_once=at_once_here(), **identity)


def trained_subject(recipe: Recipe, seed: int) -> Subject:
    """The network of a seed."""
    params = recipe.training_kept.network(_key(seed), at_once=at_once_here(), seed=seed)
    return Subject(params=params, apply=flax_apply(recipe.module))


def train_subjects_ahead(recipe: Recipe, seeds: Sequence[int], mesh: Mesh | None) -> None:
    """Trains the networks of seeds that are not in the cache, spread over the devices of a mesh."""
    keys, identities = [_key(seed) for seed in seeds], [{"seed": seed} for seed in seeds]
    recipe.training_kept.train_ahead(mesh, keys, identities)


def _key(seed: int) -> Key:
    return jax.random.split(jax.random.key(seed), 1)[0]
