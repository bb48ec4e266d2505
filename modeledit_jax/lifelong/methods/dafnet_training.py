"""Training of DAFNet: sequences of facts that grow longer as they are learnt.

Each update draws a length up to the present longest, so many facts, edits all of them into the
unedited network in one call, and judges the sum of changes by some of them: their answers, those to
rephrased prompts, and how little is left of the answers to other questions. Once the loss has not
come down for a while, sequences may grow longer. Source: ``editors/dafnet/dafnet.py`` of the public
code, which goes through all facts once before any comes again; here each sequence is drawn anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch, keep_facts
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.evaluation.knowledge import divergence, mean_log_probability
from modeledit_jax.lifelong.methods.dafnet_changes import (
    FactRows,
    Memory,
    Reading,
    count_and_normalize,
    edit_call,
    new_changes,
    transform,
)
from modeledit_jax.lifelong.methods.dafnet_network import DAFNetwork
from modeledit_jax.lifelong.model import Changes, EditableModel, commit
from modeledit_jax.lifelong.objective import token_mean
from modeledit_jax.lifelong.parts_of_rows import by_parts
from modeledit_jax.lifelong.token_gradients import tokens_per_fact
from modeledit_jax.types import Array, Field, Key


@dataclass(frozen=True)
class SequenceTraining:
    """How a DAFNet is trained; the defaults are the released ones but for the number of updates,
    which took about seven days on a network of seven billion parameters.

    Attributes:
      updates: of the networks, altogether.
      learning_rate: of Adam for the networks.
      rate_step: of Adam for the modules' learning rates.
      max_norm: the gradient of the networks is clipped to this norm.
      edit: weight of the cross-entropy of the edited prompts.
      rephrase: that of rephrased prompts.
      locality: weight of the divergence from the unedited network on locality prompts.
      judged: facts of a sequence that are judged, at most.
      sequence: the longest sequence that is ever drawn, in facts.
      patience: the longest allowed sequence S grows when the running mean of the loss has had no
        new low for ``patience / max(1, log₁₀ S)`` updates.
      growth: share of S by which it grows.
      least_growth: facts by which it grows at least.
      smoothing: weight of a new loss in the running mean, which starts at 1 and is raised by .3
        when S grows.
    """

    updates: int = 10_000
    learning_rate: float = 1e-6
    rate_step: float = 1e-4
    max_norm: float = 100.0
    edit: float = 0.1
    rephrase: float = 0.1
    locality: float = 0.2
    judged: int = 48
    sequence: int = 1000
    patience: int = 3000
    growth: float = 0.25
    least_growth: int = 10
    smoothing: float = 0.01

    def __post_init__(self) -> None:
        for name in ("judged", "sequence", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: give at least 1")


@struct.dataclass
class Curriculum:
    """How long sequences may be, and what says when they grow."""

    longest: Field  # () int32, S
    average: Field  # () float32, running mean of the loss
    lowest: Field  # () float32, its lowest value since S grew
    since: Field  # () int32, updates until that


@struct.dataclass
class SequenceState:
    """Between two updates."""

    networks: Field  # {group: DAFNetwork}
    statistics: Field  # {group: RunningMoments}
    optimizer: Field
    curriculum: Field  # Curriculum
    step: Field  # () int32
    key: Field  # typed PRNG key, of what is drawn


@dataclass(frozen=True)
class SequenceSize:
    """Static sizes of a sequence: ``calls`` of ``facts`` facts with room for ``rows`` tokens."""

    calls: int
    facts: int
    rows: int


def sequence_size(reading: Reading, training: SequenceTraining, stream: FactBatch) -> SequenceSize:
    """Sizes for a stream ``[S, n, ...]``, whose values are known.

    Where rows are read in the network as it is after earlier facts, calls have n of them.
    """
    total, batch = stream.subject_last.size, stream.subject_last.shape[-1]
    facts = min(training.sequence, total)
    calls = 1
    if reading.source == "current":
        calls = max(1, facts // batch)
        facts = min(batch, facts)
    # The facts with most tokens may all be drawn for one call.
    rows = int(np.sort(tokens_per_fact(stream.edit, reading.tokens).ravel())[-facts:].sum())
    return SequenceSize(calls, facts, rows)


def start_training(
    networks: Mapping[str, DAFNetwork],
    statistics: Mapping[str, Any],
    training: SequenceTraining,
    key: Key,
) -> SequenceState:
    """The state before the first update of fresh networks."""
    # Copies, for `train_steps` takes the buffers.
    networks, statistics = jax.tree.map(
        partial(jnp.array, copy=True), (dict(networks), dict(statistics))
    )
    curriculum = Curriculum(jnp.int32(1), jnp.float32(1.0), jnp.float32(10.0), jnp.int32(0))
    optimizer = _optimizer(training).init(networks)
    return SequenceState(networks, statistics, optimizer, curriculum, jnp.int32(0), key)


@partial(jax.jit, static_argnames=("reading", "training", "size", "steps"), donate_argnames="state")
def train_steps(
    reading: Reading,
    training: SequenceTraining,
    model: EditableModel,
    state: SequenceState,
    stream: FactBatch,
    size: SequenceSize,
    steps: int,
) -> tuple[SequenceState, dict[str, Array]]:
    """Makes ``steps`` updates; cutting a training into parts changes nothing.

    Args:
      reading: how rows are read, static.
      training: static.
      model: the network whose facts are edited.
      state: donated.
      stream: facts to learn from, ``[S, n, ...]``.
      size: of `sequence_size`, static.
      steps: updates.

    Returns:
      The state, and of every update ``loss``, ``gradient_norm`` before clipping, and ``longest``.
    """
    facts = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), stream)
    step = partial(_step, reading, training, model, facts, size)
    return jax.lax.scan(lambda state, _: step(state), state, length=steps)


def _step(
    reading: Reading,
    training: SequenceTraining,
    model: EditableModel,
    facts: FactBatch,
    size: SequenceSize,
    state: SequenceState,
) -> tuple[SequenceState, dict[str, Array]]:
    keys = jax.random.split(jax.random.fold_in(state.key, state.step))
    room, longest = size.calls * size.facts, state.curriculum.longest
    sequence = draw_sequence(keys[0], facts, room, longest)
    judged = draw_judged(keys[1], sequence, training.judged)
    after, metrics = update(reading, training, model, state, sequence, judged, size)
    return after, metrics | {"longest": longest}


def update(
    reading: Reading,
    training: SequenceTraining,
    model: EditableModel,
    state: SequenceState,
    sequence: FactBatch,
    judged: FactBatch,
    size: SequenceSize,
) -> tuple[SequenceState, dict[str, Array]]:
    """One update of the networks by a sequence of facts, of which some are judged."""
    seen = _read(reading, model, state, sequence, size)
    statistics, seen = count_and_normalize(state.statistics, seen)
    nothing = Memory.empty(model, 0, reading.network)

    def loss(networks: dict[str, DAFNetwork]) -> Array:
        found = transform(networks, seen, nothing, reading.network, reading.detach)
        return sequence_loss(model, new_changes(model, networks, seen, found), judged, training)

    value, gradients = jax.value_and_grad(loss)(state.networks)
    norm = optax.tree.norm({group: part.layers for group, part in gradients.items()})
    updates, optimizer = _optimizer(training).update(gradients, state.optimizer)
    networks = optax.apply_updates(state.networks, updates)
    step = state.step + 1
    curriculum = grow(state.curriculum, value, step, training)
    after = SequenceState(networks, statistics, optimizer, curriculum, step, state.key)
    return after, {"loss": value, "gradient_norm": norm}


def draw_sequence(key: Key, facts: FactBatch, room: int, longest: Array) -> FactBatch:
    """1 to ``longest`` different facts of ``[F, ...]`` in random order, in the first of ``room``
    places."""
    order_key, length_key = jax.random.split(key)
    # Those that fill up a batch come last, and are left out as they are.
    chance = jax.random.uniform(order_key, facts.real.shape) + ~facts.real
    order = jnp.argsort(chance)[:room]
    length = jax.random.randint(length_key, (), 1, longest + 1)
    return keep_facts(jax.tree.map(lambda leaf: leaf[order], facts), jnp.arange(room) < length)


def draw_judged(key: Key, sequence: FactBatch, most: int) -> FactBatch:
    """At most so many facts of a sequence, at random, all if there are no more."""
    chance = jax.random.uniform(key, sequence.real.shape) + ~sequence.real
    order = jnp.argsort(chance)[:most]
    return jax.tree.map(lambda leaf: leaf[order], sequence)


def sequence_loss(
    model: EditableModel, changes: Changes, judged: FactBatch, training: SequenceTraining
) -> Float[Array, ""]:
    """What the changes of a sequence are judged by."""
    original = model.kernels()

    def of_rows(rows: tuple[TokenBatch, ...]) -> tuple[Array, ...]:
        before = jax.lax.stop_gradient(model.answer_logits(original, rows[-1]))
        edit, rephrase, locality = (model.answer_logits(original, r, changes) for r in rows)
        return (
            -mean_log_probability(edit, rows[0].answers),
            -mean_log_probability(rephrase, rows[1].answers),
            divergence(locality, before, rows[2].answers),
        )

    parts = (judged.edit, judged.rephrase, judged.locality)
    losses = by_parts(of_rows, parts, model.rows_at_once)
    weights = (training.edit, training.rephrase, training.locality)
    means = (token_mean(loss, part.answers) for loss, part in zip(losses, parts, strict=True))
    return sum((w * mean for w, mean in zip(weights, means, strict=True)), jnp.zeros(()))


def grow(
    curriculum: Curriculum, loss: Array, updates: Array, training: SequenceTraining
) -> Curriculum:
    """The curriculum after an update; see `SequenceTraining`."""
    average = curriculum.average + (loss - curriculum.average) * training.smoothing
    better = average < curriculum.lowest
    lowest = jnp.where(better, average, curriculum.lowest)
    since = jnp.where(better, updates, curriculum.since)
    longest = curriculum.longest
    wait = training.patience / jnp.maximum(1.0, jnp.log10(longest.astype(jnp.float32)))
    more = (updates - since > wait) & (longest < training.sequence)
    added = jnp.maximum(jnp.floor(longest * training.growth), training.least_growth)
    longer = jnp.minimum(longest + added.astype(jnp.int32), training.sequence)
    return Curriculum(
        longest=jnp.where(more, longer, longest),
        average=jnp.where(more, average + 0.3, average).astype(jnp.float32),
        lowest=jnp.where(more, 10.0, lowest).astype(jnp.float32),
        since=jnp.where(more, updates, since),
    )


def _read(
    reading: Reading,
    model: EditableModel,
    state: SequenceState,
    sequence: FactBatch,
    size: SequenceSize,
) -> FactRows:
    """Rows of a sequence, all of the unedited network, or call after call of the edited one."""
    kernels = model.kernels()
    if reading.source == "unedited":
        return reading.rows_of(model, kernels, sequence.edit, size.rows)
    calls = jax.tree.map(
        lambda leaf: leaf.reshape(size.calls, size.facts, *leaf.shape[1:]), sequence
    )
    memory = Memory.empty(model, size.calls * size.facts, reading.network)

    def call(carry: tuple[Any, Memory], part: FactBatch) -> tuple[tuple[Any, Memory], FactRows]:
        kernels, memory = carry
        seen = reading.rows_of(model, kernels, part.edit, size.rows)
        changes, memory = edit_call(
            reading, model, kernels, state.networks, state.statistics, memory, seen
        )
        return (commit(kernels, changes), memory), seen

    _, seen = jax.lax.scan(call, (kernels, memory), calls)
    return _joined(seen)


def _joined(seen: FactRows) -> FactRows:
    """The rows ``[c, m, r, s]`` of c calls as those of one, ``[m, c · r, s]``."""

    def rows(part: Array) -> Array:
        return jnp.moveaxis(part, 0, 1).reshape(part.shape[1], -1, part.shape[-1])

    def belongs(part: Array) -> Array:
        calls, modules, facts, size = part.shape
        own = jnp.eye(calls, dtype=bool)[:, None, None, :, None]
        spread = part[:, :, :, None, :] & own  # [c, m, n, c, r]
        return jnp.moveaxis(spread, 0, 1).reshape(modules, calls * facts, calls * size)

    return FactRows(
        {group: rows(part) for group, part in seen.rows.items()},
        {group: belongs(part) for group, part in seen.belongs.items()},
        seen.real.reshape(-1),
    )


def _optimizer(training: SequenceTraining) -> optax.GradientTransformation:
    """Adam; only the gradient of the networks is clipped, not that of the learning rates."""
    networks = optax.chain(
        optax.clip_by_global_norm(training.max_norm), optax.adam(training.learning_rate)
    )

    def labels(networks: dict[str, DAFNetwork]) -> dict[str, DAFNetwork]:
        return {name: DAFNetwork("layers", "lr") for name in networks}

    return optax.partition({"layers": networks, "lr": optax.adam(training.rate_step)}, labels)
