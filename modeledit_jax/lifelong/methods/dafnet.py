"""DAFNet: a network that sees the edits before, and says how much of each is to be kept.

What it makes of the tokens of a batch, `dafnet_network` says; what becomes of the kernels,
`dafnet_changes`; how it learns, `dafnet_training`. Source: Zhang et al. 2024 (DAFNet, Findings of
ACL), public code.

Of every fact that was edited in, the state holds one representation of d_in + d_out numbers for
each edited module and layer of the network: it does not grow while a stream is edited, but has to
be as large as the stream is long, and the work of a batch grows with it. For the 9 MLP modules of
Llama-2 in the released setting that is 1.1 MB of float32 a fact. With a smaller ``memory`` the
latest facts alone are seen, and both stay bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import values_known
from modeledit_jax.lifelong.methods.dafnet_changes import Memory, Reading, edit_call
from modeledit_jax.lifelong.methods.dafnet_network import DAFNetwork, init_dafnet
from modeledit_jax.lifelong.methods.dafnet_training import (
    SequenceState,
    SequenceTraining,
    sequence_size,
    start_training,
    train_steps,
)
from modeledit_jax.lifelong.methods.hypernetwork import group_modules, init_statistics
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, check_facts
from modeledit_jax.lifelong.stream import CHUNK, StreamEditor, TrainingLoop, train_in_memory
from modeledit_jax.lifelong.token_gradients import check_rows, rows_needed
from modeledit_jax.memory import live_bytes, tree_bytes
from modeledit_jax.types import Array, Field, Key

EPSILON = 1e-8
"""What the released normalizer adds to the deviation."""


@struct.dataclass
class DAFNetState:
    """What was learned, and what is kept of the facts so far."""

    networks: Field  # {group: DAFNetwork}
    statistics: Field  # {group: RunningMoments}; they do not count while editing
    memory: Field  # Memory


@dataclass(frozen=True)
class DAFNet(Reading, StreamEditor):
    """A change of all modules for every batch, in view of the facts before.

    Attributes:
      memory: facts whose representations are kept, the latest if there were more; None: all,
        `sized_for` knows how many.
      rows: room for the tokens of a batch that count; None: for all its positions, which
        `sized_for` narrows to those that count. Fewer than a batch has are refused.
      training: how the networks learn; None: they do not.
    """

    memory: int | None = None
    rows: int | None = None
    training: SequenceTraining | None = None

    def __post_init__(self) -> None:
        for name in ("memory", "rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: give at least 1, or None")

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "DAFNet":
        """With as much ``memory`` and as many ``rows`` as the streams need, unless they are given.

        Both come in eights, so that streams differ less and more is compiled once.

        Raises:
          ValueError: ``rows`` are given, and too few for a batch.
        """
        if self.rows is not None:
            for stream in streams:
                check_rows(stream.edit, self.rows, self.tokens)
        known = [stream for stream in streams if values_known(stream)]
        if not known:
            return self
        rows = max(rows_needed(stream.edit, self.tokens) for stream in known)
        facts = max(int(np.asarray(stream.real).sum()) for stream in known)
        return replace(
            self,
            rows=self.rows or -(-rows // 8) * 8,
            memory=self.memory or -(-facts // 8) * 8,
        )

    def init(self, model: EditableModel, key: Key) -> DAFNetState:
        """Networks as they are drawn, and no fact.

        Raises:
          ValueError: without ``memory`` it is not known for how many facts there has to be room.
        """
        if self.memory is None:
            raise ValueError(
                "memory=None: give the number of facts to be edited in, or size the method for "
                "their stream (sized_for)"
            )
        groups = group_modules(model.shapes)
        networks = {
            group: init_dafnet(
                jax.random.fold_in(key, index),
                sum(model.shapes[names[0]]),
                len(names),
                self.network,
            )
            for index, (group, names) in enumerate(groups.items())
        }
        statistics = init_statistics(model.shapes, epsilon=EPSILON, dtype=model.dtype.type)
        return DAFNetState(networks, statistics, Memory.empty(model, self.memory, self.network))

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> DAFNetState:
        """See `StreamEditor.train`.

        Raises:
          ValueError: there is nothing to learn from, or a token that the network does not embed.
        """
        init_key, key = jax.random.split(key)
        training = self.training
        if training is None:
            return self.init(model, init_key)
        if stream is None:
            raise ValueError(
                "this editor learns from facts about other subjects: give it some to train on, "
                "or training=None"
            )
        check_facts(model, stream, "stream")
        fresh = self.init(model, init_key)
        size = sequence_size(self, training, stream)

        def advance(
            state: SequenceState, done: int, steps: int
        ) -> tuple[SequenceState, dict[str, Array]]:
            return train_steps(self, training, model, state, stream, size, steps)

        start = start_training(fresh.networks, fresh.statistics, training, key)
        names = ("loss", "gradient_norm", "longest")
        trained = loop(start, advance, training.updates, metrics=names)
        return DAFNetState(trained.networks, trained.statistics, fresh.memory)

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """See `StreamEditor.training_bytes`; here the values of ``stream`` are needed."""
        training = self.training
        if training is None:
            return 0

        def start(model: EditableModel, key: Key) -> SequenceState:
            fresh = self.init(model, key)
            return start_training(fresh.networks, fresh.statistics, training, key)

        state = jax.eval_shape(start, model, jax.eval_shape(jax.random.key, 0))
        size, steps = sequence_size(self, training, stream), min(CHUNK, training.updates)

        def run(model: EditableModel, state: SequenceState, stream: FactBatch) -> Any:
            return train_steps(self, training, model, state, stream, size, steps)

        return tree_bytes(state) + live_bytes(run, model, state, stream)

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`."""
        return 0 if self.training is None else self.training.updates

    def edit(
        self, model: EditableModel, kernels: Kernels, state: DAFNetState, batch: FactBatch, key: Key
    ) -> tuple[Changes, DAFNetState]:
        """See `StreamEditor.edit`.

        Raises:
          ValueError: the state is of other modules; ``rows`` are too few, where that is known.
        """
        _check_state(model, state.networks)
        facts, length = batch.edit.tokens.shape
        rows = facts * length if self.rows is None else self.rows
        seen = self.rows_of(model, kernels, batch.edit, rows)
        changes, memory = edit_call(
            self, model, kernels, state.networks, state.statistics, state.memory, seen
        )
        return changes, DAFNetState(state.networks, state.statistics, memory)


def _check_state(model: EditableModel, networks: dict[str, DAFNetwork]) -> None:
    """A network of fewer modules would be read beyond its end, which JAX clamps."""
    trained = {group: network.lr.shape[-1] for group, network in networks.items()}
    needed = {group: len(names) for group, names in group_modules(model.shapes).items()}
    if trained != needed:
        raise ValueError(
            f"the state of the editor is of {trained} modules by shape, the model edits {needed}: "
            "train it on this model"
        )
