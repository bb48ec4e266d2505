"""Trained networks from the cache, or trained and put there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from modeledit_jax.processes import agreed
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.checkpoint import fingerprint
from modeledit_jax.run.folder import as_json
from modeledit_jax.subjects.training import TrainingConfig, train_classifiers, train_spread
from modeledit_jax.types import Array, Examples, Key, Params


@dataclass(frozen=True)
class CachedTraining:
    """A recipe, and where the networks trained by it are kept.

    Attributes:
      module: the architecture.
      training: the recipe.
      train: examples ``[N, ...]``.
      cache: folder.
      fingerprint: of the data.
    """

    module: nn.Module
    training: TrainingConfig
    train: Examples
    cache: Path
    fingerprint: str

    @property
    def folder(self) -> Path:
        """Of the networks."""
        return self.cache / "subjects"

    def key(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """All that a network depends on; ``identity`` is what names it beside the recipe."""
        return {
            "module": repr(self.module),
            "training": as_json(self.training),
            "data": self.fingerprint,
            "identity": identity,
        }

    def network(
        self,
        key: Key,
        weights: Array | None = None,
        *,
        at_once: int | None = None,
        **identity: Any,
    ) -> Params:
        """One network, trained once for every content of the arguments.

        Args:
          key: of its training.
          weights: of the examples ``[N]``, or None (`train_classifiers`).
          at_once: see there.
          **identity: what names it beside architecture, recipe and data.
        """
        many = None if weights is None else weights[None]
        build = partial(
            train_classifiers, self.module, self.train, self.training, key[None], many,
            at_once=at_once,
        )  # fmt: skip
        trained = cached_tree(self.folder, self.key(identity), build)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), trained)

    def train_ahead(
        self,
        mesh: Mesh | None,
        keys: Sequence[Key],
        identities: Sequence[Mapping[str, Any]],
        weights: Sequence[Array] | None = None,
    ) -> None:
        """Trains what `network` would not find in the cache, side by side.

        On one CPU it does nothing: there `network` trains them one by one, which is no slower, and
        keeps each as soon as it is trained.

        Args:
          mesh: devices to spread them over (axis ``tasks``); None: one device.
          keys: of ``B`` networks.
          identities: of each.
          weights: of each.
        """
        at_once = at_once_here()
        if mesh is None and at_once == 1:
            return
        paths = [self.folder / fingerprint(self.key(identity)) for identity in identities]
        missing = agreed([index for index, path in enumerate(paths) if not path.is_dir()])
        if not missing:
            return
        many = None if weights is None else jnp.stack([weights[index] for index in missing])
        own = jnp.stack([keys[index] for index in missing])
        train = train_classifiers if mesh is None else partial(train_spread, mesh=mesh)
        trained = train(self.module, self.train, self.training, own, many, at_once=at_once)
        for place, index in enumerate(missing):
            build = partial(_one_of, trained, place)
            cached_tree(self.folder, self.key(identities[index]), build)
        agreed(None)  # from here on, every process finds them


def at_once_here() -> int | None:
    """Networks trained side by side: one on CPU, where stacked ones thrash its caches."""
    return 1 if jax.default_backend() == "cpu" else None


def _one_of(trained: Params, place: int) -> Params:
    return jax.tree.map(lambda leaf: leaf[place : place + 1], trained)
