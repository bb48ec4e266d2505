"""Trained networks from the cache, or trained and put there."""

from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.folder import as_json
from modeledit_jax.subjects.training import TrainingConfig, train_classifiers
from modeledit_jax.types import Array, Examples, Key, Params


def cached_networks(
    module: nn.Module,
    training: TrainingConfig,
    train: Examples,
    keys: Key,
    weights: Array | None = None,
    *,
    cache: Path,
    fingerprint: str,
    at_once: int | None = None,
    **identity: Any,
) -> Params:
    """Networks of one architecture and recipe, trained once for every content of the arguments.

    Args:
      module: the architecture.
      training: the recipe.
      train: examples ``[N, ...]``.
      keys: ``[B]``.
      weights: of the examples ``[B, N]``, or None (`train_classifiers`).
      cache: folder.
      fingerprint: of the data.
      at_once: networks trained side by side; None: all.
      **identity: what names these networks beside architecture, recipe and data.

    Returns:
      Parameters with a leading axis ``B``.
    """
    key = {
        "module": repr(module),
        "training": as_json(training),
        "data": fingerprint,
        "identity": identity,
    }
    build = partial(train_classifiers, module, train, training, keys, weights, at_once=at_once)
    trained = cached_tree(cache / "subjects", key, build)
    return jax.tree.map(jnp.asarray, trained)
