"""Image classifiers to edit: trained by recipes that converge, and kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.common.networks import cached_networks
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


def retrained(recipe: Recipe, key: Key, weights: Array, **identity: Any) -> Params:
    """A network trained on weighted examples ``[N]``; ``identity`` names it in the cache."""
    return _cached(recipe, key[None], weights[None], **identity)


def trained_subject(recipe: Recipe, seed: int) -> Subject:
    """The network of a seed."""
    keys = jax.random.split(jax.random.key(seed), 1)
    params = _cached(recipe, keys, None, seed=seed)
    return Subject(params=params, apply=flax_apply(recipe.module))


def _cached(recipe: Recipe, keys: Key, weights: Array | None, **identity: Any) -> Params:
    train = Examples(jnp.asarray(recipe.splits.train.x), jnp.asarray(recipe.splits.train.y))
    trained = cached_networks(
        recipe.module,
        recipe.training,
        train,
        keys,
        weights,
        cache=recipe.cache,
        fingerprint=recipe.fingerprint,
        # One after another on CPU, where stacked networks thrash its caches.
        at_once=1 if jax.default_backend() == "cpu" else None,
        **identity,
    )
    return jax.tree.map(lambda leaf: leaf[0], trained)
