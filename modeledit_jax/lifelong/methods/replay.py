"""Replay: with every batch, earlier facts that the network says least are edited in again (ours).

What a long stream of edits loses first is edits. Methods that remember earlier batches spare what
the edited layers say of them, and yet their answers go, for keys move with the layers below and
whatever lies above reads an altered stream. Replay looks: after every batch it draws some of the
facts so far, asks for their answers, and edits those that come least likely once more, by the same
method. Of a fact that is still said the values' search ends where it begins, so nothing is changed.
The name is that of experience replay (Lin 1992).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch, keep_facts
from modeledit_jax.evaluation.knowledge import mean_log_probability
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.methods.restraint import Restrained
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, commit
from modeledit_jax.lifelong.stream import TrainingLoop, train_in_memory
from modeledit_jax.types import Array, Field, Key


@dataclass(frozen=True)
class Rows:
    """What a stored fact is made of, without its arrays; hashable."""

    structure: Hashable  # of a FactBatch
    leaves: tuple[jax.ShapeDtypeStruct, ...]  # of one fact

    @classmethod
    def of(cls, batch: FactBatch) -> "Rows":
        """Of a batch ``[n, ...]``, or of its shapes."""
        leaves, structure = jax.tree.flatten(batch)
        return cls(structure, tuple(jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for x in leaves))

    def empty(self, room: int) -> FactBatch:
        """Room for so many facts, ``[room, ...]``."""
        zeros = [jnp.zeros((room, *leaf.shape), leaf.dtype) for leaf in self.leaves]
        return jax.tree.unflatten(self.structure, zeros)


@struct.dataclass
class ReplayState:
    """All that the method keeps between two batches."""

    editor: Field  # pytree of the method that edits
    facts: Field  # FactBatch [room, ...]: what was to be edited in
    seen: Field  # () int32: facts so far


@dataclass(frozen=True)
class Replay(Restrained):
    """A method that goes back to earlier facts.

    Attributes:
      facts: edited in again beside a batch, at most.
      candidates: of the facts so far, drawn at random, among which these are the least likely.
      room: facts that are kept; of more, a sample in which all are equally likely (reservoir
        sampling, Vitter 1985), so that memory does not grow with the stream.
      rows: of a fact; None: `sized_for` finds it.
    """

    facts: int = 10
    candidates: int = 40
    room: int = 2_000
    rows: Rows | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.facts <= self.candidates <= self.room:
            raise ValueError(
                f"facts={self.facts}, candidates={self.candidates}, room={self.room}: give at "
                "least one fact, and of the next no fewer"
            )

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "Replay":
        """With ``rows`` of the first stream, that of the edits, unless they are given.

        Raises:
          ValueError: a stream whose facts have other rows than those given; see the method's own.
        """
        editor = self.editor.sized_for(model, streams)
        if not streams:
            return replace(self, editor=editor)
        first = jax.eval_shape(lambda stream: jax.tree.map(lambda x: x[0], stream), streams[0])
        found = Rows.of(_kept_part(first))
        if self.rows is not None and self.rows != found:
            raise ValueError("rows: facts of another length, or encoded otherwise, than expected")
        return replace(self, editor=editor, rows=found)

    def init(self, model: EditableModel, key: Key) -> ReplayState:
        """With no fact stored; errors as of the method's own, and as `train`."""
        return self._start(self.editor.init(model, key))

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> ReplayState:
        """See `StreamEditor.train`.

        Raises:
          ValueError: ``rows`` are not known: call `sized_for` first.
        """
        return self._start(self.editor.train(model, stream, key, loop))

    def _start(self, state: Any) -> ReplayState:
        if self.rows is None:
            raise ValueError("rows: the room for facts is not known, call sized_for first")
        return ReplayState(state, self.rows.empty(self.room), jnp.zeros((), jnp.int32))

    def edit(
        self,
        model: EditableModel,
        kernels: Kernels,
        state: ReplayState,
        batch: FactBatch,
        key: Key,
    ) -> tuple[Changes, ReplayState]:
        """The method's changes for the batch, and then for the facts that are replayed.

        The method remembers the batch alone: what is replayed it knows from the first time.
        """
        first, again, draw, store = jax.random.split(key, 4)
        changes, editor = self.editor.edit(model, kernels, state.editor, batch, first)
        after = commit(kernels, changes)
        least = self._least_likely(model, after, state, draw)
        replayed, _ = self.editor.edit(model, after, editor, least, again)
        total = commit(after, replayed)
        changed = {**changes, **replayed}
        facts, seen = stored(state.facts, state.seen, batch, store)
        return (
            {name: Hook(delta=total[name] - kernels[name]) for name in changed},
            ReplayState(editor, facts, seen),
        )

    def _least_likely(
        self, model: EditableModel, kernels: Kernels, state: ReplayState, key: Key
    ) -> FactBatch:
        """Of facts drawn, those whose answers are least likely; rows to fill up where too few."""
        known = jnp.arange(self.room) < state.seen
        order = jnp.where(known, jax.random.uniform(key, (self.room,)), 2.0)
        drawn = jnp.argsort(order)[: self.candidates]
        facts = jax.tree.map(lambda leaf: leaf[drawn], state.facts)
        logits = model.answer_logits(kernels, facts.edit)
        likely = jnp.where(known[drawn], mean_log_probability(logits, facts.edit.answers), jnp.inf)
        least = jnp.argsort(likely)[: self.facts]
        chosen = jax.tree.map(lambda leaf: leaf[least], facts)
        return keep_facts(chosen, known[drawn][least])

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`; every batch is edited in twice at most."""
        return 2 * self.editor.gradient_steps(batches) - self.editor.gradient_steps(0)


def _kept_part(batch: FactBatch) -> FactBatch:
    """What an editor reads of a batch, in the place of what it is measured by as well."""
    edit = replace(batch.edit, hidden=None)
    return FactBatch(edit, edit, edit, None, None, None, batch.subject_last, batch.contexts)


def stored(
    facts: FactBatch, seen: Int[Array, ""], batch: FactBatch, key: Key
) -> tuple[FactBatch, Int[Array, ""]]:
    """The facts ``[room, ...]`` with those of a batch among them, and how many were seen.

    While there is room every fact is kept; then the t-th takes the place of another with
    probability room / t. Rows that fill up a batch are left out.
    """
    room, real = facts.subject_last.shape[0], batch.real
    number = seen + jnp.cumsum(real) - 1  # of each fact, from 0 on
    drawn = jnp.floor(jax.random.uniform(key, real.shape) * (number + 1)).astype(jnp.int32)
    place = jnp.where(number < room, number, drawn)
    place = jnp.where(real & (place < room), place, room)  # beyond: dropped
    kept = jax.tree.map(
        lambda all_facts, own: all_facts.at[place].set(own, mode="drop"), facts, _kept_part(batch)
    )
    return kept, seen + real.sum(dtype=jnp.int32)
