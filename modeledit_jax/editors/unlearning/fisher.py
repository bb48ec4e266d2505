"""One change of every weight, by how much it matters to what is forgotten or kept.

How much a weight matters to examples is the mean of its squared gradient, the diagonal of the
Fisher information. Both editors read the ``train`` role.
"""

import math
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.editors.unlearning.gradient_editor import (
    Network,
    TrainingSets,
    network_of,
    training_sets,
)
from modeledit_jax.editors.unlearning.gradients import mean_squared_gradient
from modeledit_jax.editors.unlearning.scope import Scope
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.edits.split_apply import cached_features
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array, Key, Leaves


@dataclass(frozen=True)
class SSD:
    """Dampens weights: ``θ ← min(dampening · I / I_f, 1) θ`` where ``I_f > selection · I``.

    ``I_f`` and ``I`` are the diagonals of the Fisher information over the forget and over all
    examples (Foster et al. 2024, *Selective Synaptic Dampening*, arXiv 2308.07707), here of
    gradients of single examples; the published code squares those of batches.

    Attributes:
      scope: see `Scope`.
      selection: α, how much more a weight must matter to the forget examples.
      dampening: λ.
    """

    scope: Scope = "site"
    selection: float = 10.0
    dampening: float = 1.0

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``key`` is not used.

        Raises:
          ValueError: settings out of range, or nothing to retain or to forget.
        """
        del key
        begin = time.perf_counter()
        if not (0 < self.selection < math.inf and 0 <= self.dampening < math.inf):
            raise ValueError(
                f"selection must be above 0, dampening at least 0, both finite: {self}"
            )
        network, sets = network_of(task, self.scope), training_sets(task)
        forget = sets.weights["forget"]
        every = sets.weights["retain"] + forget
        own, all_ = (fisher_diagonal(network, sets, weight) for weight in (forget, every))

        def dampened(leaf: Array, own: Array, every: Array) -> Array:
            factor = jnp.minimum(self.dampening * every / jnp.where(own > 0, own, 1.0), 1.0)
            return jnp.where(own > self.selection * every, factor * leaf, leaf)

        leaves = jax.tree.map(dampened, network.leaves, own, all_)
        return _result(task, leaves, begin)


@dataclass(frozen=True)
class FisherForgetting:
    """Adds noise of variance ``noise · min(1 / F, bound)`` to every weight.

    ``F`` is the diagonal of the Fisher information of the retained examples, whose labels are
    drawn from the network's own predictions, in expectation (Golatkar et al. 2020, *Eternal
    Sunshine of the Spotless Net*, arXiv 1911.04933, as in its code). The published code also
    erases the rows of the forgotten classes in the last layer, a mask of the output, which is left
    out here, as are its exceptions for single layers.

    Attributes:
      scope: see `Scope`.
      noise: α.
      bound: of ``1 / F``.
    """

    scope: Scope = "site"
    noise: float = 1e-6
    bound: float = 1e3

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network; ``key`` draws the noise.

        Raises:
          ValueError: settings out of range, or nothing to retain or to forget.
        """
        begin = time.perf_counter()
        if not (0 <= self.noise < math.inf and 0 < self.bound < math.inf):
            raise ValueError(f"noise must be at least 0, bound above 0, both finite: {self}")
        network, sets = network_of(task, self.scope), training_sets(task)
        information = expected_fisher_diagonal(network, sets, sets.weights["retain"])

        def noisy(leaf: Array, information: Array, key: Key) -> Array:
            variance = self.noise / jnp.maximum(information, 1.0 / self.bound)
            return leaf + jnp.sqrt(variance) * jax.random.normal(key, leaf.shape, leaf.dtype)

        leaves = network.leaves
        keys = dict(zip(leaves, jax.random.split(key, len(leaves)), strict=True))
        return _result(task, jax.tree.map(noisy, leaves, information, keys), begin)


def fisher_diagonal(network: Network, sets: TrainingSets, weight: Float[Array, " n"]) -> Leaves:
    """Weighted mean of the squared gradients of single examples, by their own labels."""
    features = cached_features(network.apply, network.params, sets.x, network.paths)
    data = (sets.x[:1], features, sets.label, weight, weight.sum())
    return mean_squared_gradient((network.apply, network.paths), network.params, *data)


def expected_fisher_diagonal(
    network: Network, sets: TrainingSets, weight: Float[Array, " n"]
) -> Leaves:
    """The same in expectation over labels that the network predicts: one pass for each class."""
    features = cached_features(network.apply, network.params, sets.x, network.paths)
    probability = jax.nn.softmax(network.logits(sets.x))
    found = []
    for c in range(probability.shape[1]):
        label, own = jnp.full_like(sets.label, c), weight * probability[:, c]
        data = (sets.x[:1], features, label, own, weight.sum())
        setup = (network.apply, network.paths)
        found.append(mean_squared_gradient(setup, network.params, *data))
    return jax.tree.map(lambda *each: sum(each[1:], each[0]), *found)


def _result(task: Task, leaves: Leaves, begin: float) -> EditResult:
    params = jax.block_until_ready(set_leaves(task.subject.params, leaves))
    return checked(task, EditResult(params, Cost(seconds=time.perf_counter() - begin)))
