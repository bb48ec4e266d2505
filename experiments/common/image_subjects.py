"""Image classifiers to edit: trained by recipes that converge, and kept."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from modeledit_jax.data.images.splits import Splits
from modeledit_jax.run.checkpoint import cached_tree
from modeledit_jax.run.folder import as_json
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.subjects.training import TrainingConfig, train_classifiers
from modeledit_jax.types import Array, Examples, Key

TRAINING = {
    ("digits", "mlp"): TrainingConfig(epochs=60, batch_size=64),
    ("digits", "cnn"): TrainingConfig(epochs=60, batch_size=64),
    ("large", "mlp"): TrainingConfig(epochs=5, batch_size=128),
    ("large", "cnn"): TrainingConfig(epochs=3, batch_size=128, learning_rate=3e-3),
}


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


def recipe_of(kind: str, splits: Splits) -> TrainingConfig:
    """The training of an ``"mlp"`` or ``"cnn"`` on data of this size."""
    return TRAINING["large" if len(splits.train) >= 5000 else "digits", kind]


def train_cached(
    recipe: Recipe, keys: Key, weights: Array | None, **identity: Any
) -> dict[str, Any]:
    """Trains networks, or takes them from the cache.

    Args:
      recipe: what and how.
      keys: ``[B]``.
      weights: of the training examples ``[B, N]``, or None (`train_classifiers`).
      **identity: what names these networks in the cache, beside the recipe.

    Returns:
      Parameters with a leading axis ``B``.
    """
    key = {
        "module": repr(recipe.module),
        "training": as_json(recipe.training),
        "data": recipe.fingerprint,
        "identity": identity,
    }
    train = Examples(jnp.asarray(recipe.splits.train.x), jnp.asarray(recipe.splits.train.y))
    # One after another on CPU, where stacked networks thrash its caches.
    at_once = 1 if jax.default_backend() == "cpu" else None
    build = partial(
        train_classifiers, recipe.module, train, recipe.training, keys, weights, at_once=at_once
    )
    return cached_tree(recipe.cache / "subjects", key, build)


def trained_subject(recipe: Recipe, seed: int) -> Subject:
    """The network of a seed."""
    trained = train_cached(recipe, jax.random.split(jax.random.key(seed), 1), None, seed=seed)
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trained)
    return Subject(params=params, apply=flax_apply(recipe.module))
