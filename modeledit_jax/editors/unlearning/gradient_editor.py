"""The one training loop of all unlearning by gradients; a method is what it minimizes.

An editor of this kind draws batches from the ``train`` role, as the training of the network did,
and changes the leaves of its `Scope` alone. Only they are handed to the optimizer, so that neither
its momentum nor a decay can reach another leaf; what the network computes before them is computed
once.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.editors.editor import Cost, EditResult, checked
from modeledit_jax.editors.unlearning.scope import Scope, scope_paths
from modeledit_jax.edits.site import get_leaves, set_leaves
from modeledit_jax.edits.split_apply import Features, cached_features, split_apply
from modeledit_jax.evaluation.accuracy import all_logits
from modeledit_jax.subjects.subject import predict
from modeledit_jax.subjects.training import cross_entropy
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Apply, Array, Field, Key, Leaves, Params

SETS = ("retain", "forget")
Optimizer: TypeAlias = Literal["sgd", "adam"]
ALL = "all"
"""Name under which batches are drawn from all training examples."""


@struct.dataclass
class TrainingSets:
    """The examples that batches are drawn from."""

    x: Field  # [N, ...]
    label: Field  # [N] int32
    weights: Field  # {set: [N] float32}, 0 outside of a set
    targets: Field = struct.field(default_factory=dict)  # {name: [N, ...]}, of the method


@struct.dataclass
class Batch:
    """Some examples, and what the network that is edited says of them."""

    logits: Field  # [B, C]
    label: Field  # [B] int32
    weights: Field  # {set: [B]}
    targets: Field  # {name: [B, ...]}

    def mean(self, name: str, values: Float[Array, " b"]) -> Float[Array, ""]:
        """Weighted mean over a set; 0 where the batch holds no example of it."""
        weight = self.weights[name]
        return (weight * values).sum() / jnp.maximum(weight.sum(), 1.0)

    def cross_entropy(self, name: str, label: Int[Array, " b"] | None = None) -> Float[Array, ""]:
        """Mean cross-entropy over a set, in nats; against other labels where they are given."""
        return self.mean(name, cross_entropy(self.logits, self.label if label is None else label))


@dataclass(frozen=True)
class Network:
    """The network before its edit, and where it may be changed."""

    apply: Apply
    params: Params
    paths: tuple[str, ...]

    @property
    def leaves(self) -> Leaves:
        """The leaves of the scope."""
        return get_leaves(self.params, self.paths)

    def logits(self, x: Array) -> Float[Array, "n c"]:
        """Logits of all classes, ``[N, C]`` float32, ``C`` at least 2."""
        return all_logits(_predict(self.apply, self.params, x).astype(jnp.float32))


_predict = jax.jit(predict, static_argnums=(0, 3))


@dataclass(frozen=True)
class GradientEditor(ABC):
    """Minimizes an `objective` over the leaves of a scope.

    A subclass says what it minimizes, which sets a batch is drawn from, and, if it has any, what is
    known of the examples beforehand (`prepared`), where the leaves start (`start`) and which of
    their entries stay (`mask`).

    Attributes:
      scope: see `Scope`.
      optimizer: SGD with momentum, or Adam.
      learning_rate: at the first step; it falls to zero along a cosine.
      momentum: of SGD.
      steps: of the optimizer.
      batch_size: examples drawn from each of the sets in a step, with replacement.
    """

    draws: ClassVar[tuple[str, ...]]  # names of sets

    scope: Scope = "site"
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    steps: int = 2000
    batch_size: int = 128

    def edit(self, task: Task, key: Key) -> EditResult:
        """Returns the edited network.

        Args:
          task: with the sets ``retain`` and ``forget`` in its ``train`` role.
          key: of all draws.

        Raises:
          ValueError: settings out of range, nothing to retain or to forget, or a task that the
            method does not fit.
        """
        self.check()
        begin = time.perf_counter()
        network, sets = network_of(task, self.scope), training_sets(task)
        # The steps take the first keys that `split` gives; this one is none of them.
        prepare_key, start_key = jax.random.split(jax.random.fold_in(key, self.steps))
        sets = self.prepared(task, network, sets, prepare_key)
        features = cached_features(network.apply, network.params, sets.x, network.paths)
        leaves, mask = self.start(network.leaves, start_key), self.mask(network, sets, features)
        setup = (self, network.apply, network.paths)
        data = (sets.label, sets.weights, sets.targets)
        leaves, kept = _fit(setup, network.params, sets.x[:1], leaves, mask, features, *data, key)
        leaves = self.chosen(task, network, leaves, kept)
        params = jax.block_until_ready(set_leaves(network.params, leaves))
        return checked(task, EditResult(params, Cost(0, self.steps, time.perf_counter() - begin)))

    def check(self) -> None:
        """Raises ValueError for settings out of range."""
        for name in ("learning_rate", "momentum"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @abstractmethod
    def objective(self, batch: Batch, leaves: Leaves, step: Int[Array, ""]) -> Float[Array, ""]:
        """What a step descends on; pure.

        Args:
          batch: of the step, with the logits of the network that has ``leaves``.
          leaves: of the scope.
          step: number of the step, from 0.
        """

    def prepared(self, task: Task, network: Network, sets: TrainingSets, key: Key) -> TrainingSets:
        """The sets with what the method has to know of their examples."""
        return sets

    def start(self, leaves: Leaves, key: Key) -> Leaves:
        """The leaves that training starts from; the unedited ones are given."""
        return leaves

    def mask(self, network: Network, sets: TrainingSets, features: Features) -> Leaves | None:
        """1 where an entry of a leaf may change, 0 where it stays; None: all may."""
        return None

    def kept_steps(self) -> int | None:
        """The leaves are kept after so many steps each, for `chosen`; None: only the last."""
        return None

    def chosen(self, task: Task, network: Network, leaves: Leaves, kept: Leaves) -> Leaves:
        """The leaves that are returned.

        Args:
          task: as of `edit`.
          network: likewise.
          leaves: after all steps.
          kept: ``{path: [K, ...]}``, after the steps of `kept_steps`; empty without.
        """
        return leaves


def network_of(task: Task, scope: Scope) -> Network:
    """The network of a task, to be edited in a scope."""
    return Network(task.subject.apply, task.subject.params, scope_paths(task, scope))


def training_sets(task: Task) -> TrainingSets:
    """The examples of a task's ``train`` role, on the device.

    Raises:
      ValueError: nothing to retain or to forget, or requests that come one after another.
    """
    sets = task.roles["train"]
    weights = {name: np.asarray(sets.weights.get(name, [0.0])) for name in SETS}
    if any(weight.ndim > 1 for weight in weights.values()):
        raise ValueError(
            f"{task.name!r} forgets in turn: this editor takes one request, the last one is "
            "forget_classes of all"
        )
    if min(weight.sum() for weight in weights.values()) <= 0:
        raise ValueError(
            f"{task.name!r} has no examples to retain or none to forget in its train role: "
            "give it a task of forget_classes or forget_samples"
        )
    return TrainingSets(
        jnp.asarray(sets.x), jnp.asarray(sets.label), jax.tree.map(jnp.asarray, weights)
    )


@partial(jax.jit, static_argnums=0)
def _fit(
    setup: tuple[GradientEditor, Apply, tuple[str, ...]],
    params: Params,
    example: Array,
    leaves: Leaves,
    mask: Leaves | None,
    features: Features,
    label: Int[Array, " n"],
    weights: Mapping[str, Float[Array, " n"]],
    targets: Mapping[str, Array],
    key: Key,
) -> tuple[Leaves, Leaves]:
    """The leaves after all steps, and those kept; nothing but the first argument is compiled in."""
    editor, apply, paths = setup
    suffix = split_apply(apply, params, example, paths).suffix
    schedule = optax.cosine_decay_schedule(editor.learning_rate, editor.steps)
    adam = editor.optimizer == "adam"
    optimizer = optax.adam(schedule) if adam else optax.sgd(schedule, momentum=editor.momentum)
    draw = partial(draw_rows, draws=editor.draws, size=editor.batch_size, members=_members(weights))

    def loss(leaves: Leaves, rows: Array, step: Array) -> Array:
        own = jax.tree.map(lambda values: values[rows], (features.per_example, weights, targets))
        logits = suffix(leaves, replace(features, per_example=own[0]))
        return editor.objective(Batch(logits, label[rows], *own[1:]), leaves, step)

    every = editor.kept_steps()

    def advance(carry: Any, inputs: tuple[Array, Key]) -> tuple[Any, None]:
        leaves, state, kept = carry
        step, key = inputs
        gradient = jax.grad(loss)(leaves, draw(key, len(label)), step)
        updates, state = optimizer.update(gradient, state, leaves)
        if mask is not None:
            updates = jax.tree.map(jnp.multiply, updates, mask)
        leaves = optax.apply_updates(leaves, updates)
        if every is not None:
            kept = jax.tree.map(lambda all, one: all.at[step // every].set(one), kept, leaves)
        return (leaves, state, kept), None

    count = 0 if every is None else -(-editor.steps // every)
    kept = jax.tree.map(lambda leaf: jnp.zeros((count, *leaf.shape), leaf.dtype), leaves)
    steps = (jnp.arange(editor.steps), jax.random.split(key, editor.steps))
    (leaves, _, kept), _ = jax.lax.scan(advance, (leaves, optimizer.init(leaves), kept), steps)
    return leaves, kept


def _members(weights: Mapping[str, Float[Array, " n"]]) -> dict[str, tuple[Array, Array]]:
    """Of every set its rows, then the others, ``[N]``, and how many its rows are."""
    return {
        name: (jnp.argsort(weight <= 0, stable=True), jnp.sum(weight > 0))
        for name, weight in weights.items()
    }


def draw_rows(
    key: Key,
    count: int,
    *,
    draws: tuple[str, ...],
    size: int,
    members: Mapping[str, tuple[Array, Array]],
) -> Int[Array, " b"]:
    """Rows of a batch: ``size`` of each set, uniformly and with replacement.

    Args:
      key: of the batch.
      count: of all examples.
      draws: names of sets, or `ALL`.
      size: of each draw.
      members: of every set, rows of which the first are its own, and how many these are.
    """
    keys = jax.random.split(key, len(draws)) if len(draws) > 1 else key[None]
    rows = []
    for own, name in zip(keys, draws, strict=True):
        if name == ALL:
            rows.append(jax.random.randint(own, (size,), 0, count))
            continue
        order, number = members[name]
        rows.append(order[jax.random.randint(own, (size,), 0, number)])
    return jnp.concatenate(rows)
