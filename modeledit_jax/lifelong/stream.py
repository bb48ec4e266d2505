"""Edits that arrive one batch after another: one `jax.lax.scan` over the batches.

The state between two batches is everything: kernels, the editor's own state, the number of batches
done and the key. Saving it and going on gives the same bits as never stopping.
"""

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Int

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import values_known
from modeledit_jax.lifelong.model import (
    Changes,
    EditableModel,
    Kernels,
    check_facts,
    commit,
    squared_norms,
)
from modeledit_jax.types import Advance, Array, Field, Key, PyTree, Report

CHUNK = 20
"""Most steps of a training in one compiled call, where a method does not say otherwise."""


@runtime_checkable
class TrainingLoop(Protocol):
    """Takes a training from its first step to its last: the caller's part of it.

    A run saves the state between chunks and goes on from there; `train_in_memory` keeps nothing.
    """

    def __call__(
        self,
        start: PyTree,
        advance: Advance,
        steps: int,
        *,
        metrics: Sequence[str] = (),
        chunk: int = CHUNK,
    ) -> PyTree:
        """Returns the state after the last step.

        Args:
          start: state before the first step: a pytree of arrays, which may be used up.
          advance: takes a state some steps on.
          steps: of the whole training.
          metrics: names of the numbers that every step reports.
          chunk: most steps of one call of ``advance``.
        """


def train_in_memory(
    start: PyTree,
    advance: Advance,
    steps: int,
    *,
    metrics: Sequence[str] = (),
    chunk: int = CHUNK,
    report: Report | None = None,
) -> PyTree:
    """The `TrainingLoop` that keeps nothing; ``report`` is called after every chunk."""
    state = start
    for done in range(0, steps, chunk):
        size = min(chunk, steps - done)
        state, found = advance(state, done, size)
        if report is not None:
            report(done + size, steps, {name: found[name] for name in metrics})
    return state


@runtime_checkable
class StreamEditor(Protocol):
    """A method that turns a batch of facts into changes of the model.

    Subclass it as a frozen dataclass and write `edit`; the rest is there for methods without
    state or training. Instances are hashable, for they are static under `jax.jit`; all arrays live
    in the state.
    """

    @property
    def contexts(self) -> int:
        """How many texts, sampled from the unedited model, `FactBatch.contexts` has to hold."""
        return 0

    @property
    def reads_text(self) -> bool:
        """Whether it uses `EditableModel.statistics`, of what the modules read on a text."""
        return False

    @property
    def finds_ahead(self) -> Hashable | None:
        """Settings of `find_ahead`: methods with equal ones find the same; None: finds nothing."""
        return None

    def find_ahead(self, model: EditableModel, batch: FactBatch) -> Array:
        """What the method finds out about the facts of a batch in the unedited network alone.

        It is found once for all methods with equal `finds_ahead` and handed to `edit` as
        ``batch.values``; where that is None, `edit` calls this itself.

        Args:
          model: the unedited network.
          batch: ``[n, ...]``, of which `edit` may read as much.

        Returns:
          ``[n, ...]``.
        """
        name = type(self).__name__
        raise NotImplementedError(f"{name} finds nothing ahead of a stream")

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "StreamEditor":
        """The method with whatever depends on the network and on the batches that it will meet.

        Raises:
          ValueError: it was given something of a fixed size that is too small for a batch.
        """
        return self

    def init(self, model: EditableModel, key: Key) -> Any:
        """State of a method that has learned nothing."""
        return None

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> Any:
        """State before the first batch, after whatever there is to be learned.

        Args:
          model: the unedited network.
          stream: facts to learn from, ``[S, n, ...]``, all parts of which may be read; None: none.
          key: of everything random in it.
          loop: runs the steps of the training; so it can be interrupted and resumed.
        """
        return self.init(model, key)

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """What a call of the steps of `train` takes, at most, of arrays that it makes.

        From shapes alone. With it, `EditableModel.rows_at_once` is chosen for the memory.

        Args:
          model, stream: as in `train`; shapes are enough.

        Returns:
          Bytes (`memory.live_bytes`); 0: nothing is learned, or it is not known.
        """
        return 0

    @abstractmethod
    def edit(
        self, model: EditableModel, kernels: Kernels, state: Any, batch: FactBatch, key: Key
    ) -> tuple[Changes, Any]:
        """Changes for one batch ``[n, ...]`` and the state after it.

        Args:
          model: the unedited network.
          kernels: as they are after all batches so far.
          state: of `train` or `init`, or of the last call.
          batch: facts to be edited in. Only its ``edit`` part may be read by an editor at this
            time: rephrased prompts and locality prompts are what it is measured by.
          key: of this batch.
        """

    def gradient_steps(self, batches: int) -> int:
        """Steps of an optimizer at most, of the training and of editing so many batches."""
        return 0


@struct.dataclass
class StreamState:
    """Between two batches."""

    kernels: Field  # Kernels
    editor: Field  # pytree of the editor
    step: Field  # () int32, batches done
    key: Field  # typed PRNG key


@struct.dataclass
class StreamTrace:
    """What happened at each of ``S`` batches, by module in the model's order (``M``)."""

    change_norms: Field  # [S, M] Frobenius norm of the change
    masks: Field  # [S, M] 1 where the module was changed, 0 where it was left out


def start_stream(
    model: EditableModel, editor_state: Any, key: Key, dtype: Any = jnp.float32
) -> StreamState:
    """The state before the first batch.

    Args:
      model: the network.
      editor_state: of `StreamEditor.train` or `StreamEditor.init`.
      key: of everything random in the stream.
      dtype: in which the edited kernels are kept.
    """
    kernels = {name: kernel.astype(dtype) for name, kernel in model.kernels().items()}
    # A copy, for `edit_stream` takes its buffers: what was trained can start other streams.
    copied = jax.tree.map(partial(jnp.array, copy=True), editor_state)
    return StreamState(kernels, copied, jnp.zeros((), jnp.int32), jax.random.clone(key))


def edit_stream(
    editor: StreamEditor, model: EditableModel, state: StreamState, stream: FactBatch
) -> tuple[StreamState, StreamTrace]:
    """Edits in all batches of ``stream``, ``[S, n, ...]``, one after another.

    ``state`` is donated. Cutting a stream into parts changes nothing: ``edit_stream`` of the second
    part from the state after the first gives the same state as both parts at once.

    Raises:
      ValueError: the editor has no room for a batch (`StreamEditor.sized_for`), or the network no
        embedding of a token.
    """
    if values_known(stream):
        check_facts(model, stream, "stream")
        editor.sized_for(model, (stream,))  # refuses what does not fit; the editor stays as it is
    return compiled_stream(editor, model, state, stream, jnp.int32(0), jnp.int32(stream.batches))


@partial(jax.jit, static_argnames="editor", donate_argnames="state")
def compiled_stream(
    editor: StreamEditor,
    model: EditableModel,
    state: StreamState,
    stream: FactBatch,
    begin: Int[Array, ""],
    end: Int[Array, ""],
) -> tuple[StreamState, StreamTrace]:
    """`edit_stream` of the batches from ``begin`` on, before ``end``, on batches that were checked.

    The bounds are arrays, so that parts of any length are compiled once. Rows of other batches are
    zero in the trace.
    """

    def step(place: Array, carry: tuple[StreamState, StreamTrace]) -> tuple:
        state, trace = carry
        batch = jax.tree.map(lambda leaf: leaf[place], stream)
        key = jax.random.fold_in(state.key, state.step)
        changes, editor_state = editor.edit(model, state.kernels, state.editor, batch, key)
        kernels = commit(state.kernels, changes)
        norms = jnp.sqrt(jnp.stack([_norm(changes, name) for name in model.modules]))
        masks = jnp.stack([_mask(changes, name) for name in model.modules])
        trace = StreamTrace(
            trace.change_norms.at[place].set(norms.astype(trace.change_norms.dtype)),
            trace.masks.at[place].set(masks),
        )
        return StreamState(kernels, editor_state, state.step + 1, state.key), trace

    empty = jnp.zeros((stream.batches, len(model.modules)), jnp.float32)
    return jax.lax.fori_loop(begin, end, step, (state, StreamTrace(empty, empty)))


def _norm(changes: Changes, name: str) -> Array:
    return squared_norms({name: changes[name]})[name] if name in changes else jnp.zeros(())


def _mask(changes: Changes, name: str) -> Array:
    mask = changes[name].mask if name in changes else 0.0
    return jnp.asarray(1.0 if mask is None else mask, jnp.float32)
