"""Edits that arrive one batch after another: one `jax.lax.scan` over the batches.

The state between two batches is everything: kernels, the editor's own state, the number of batches
done and the key. Saving it and going on gives the same bits as never stopping.
"""

from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import struct

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, commit, squared_norms
from modeledit_jax.types import Array, Field, Key


@runtime_checkable
class StreamEditor(Protocol):
    """A method that turns a batch of facts into changes of the model.

    Implementations are hashable: they are static under `jax.jit`. All arrays live in the state.
    """

    def init(self, model: EditableModel, key: Key) -> Any:
        """State before the first batch, an untrained network included."""

    def edit(
        self, model: EditableModel, kernels: Kernels, state: Any, batch: FactBatch, key: Key
    ) -> tuple[Changes, Any]:
        """Changes for one batch ``[n, ...]`` and the state after it.

        Args:
          model: the unedited network.
          kernels: as they are after all batches so far.
          state: of `init`, or of the last call.
          batch: facts to be edited in. Only its ``edit`` part may be read by an editor at this
            time: rephrased prompts and locality prompts are what it is measured by.
          key: of this batch.
        """


@struct.dataclass
class StreamState:
    """Between two batches."""

    kernels: Field  # Kernels
    editor: Field  # pytree of the editor
    step: Field  # () int32, batches done
    key: Field  # typed PRNG key


@struct.dataclass
class StreamTrace:
    """What happened at each of ``T`` batches, by module in the model's order (``M``)."""

    change_norms: Field  # [T, M] Frobenius norm of the change
    masks: Field  # [T, M] 1 where the module was changed, 0 where it was left out


def start_stream(
    model: EditableModel, editor_state: Any, key: Key, dtype: Any = jnp.float32
) -> StreamState:
    """The state before the first batch.

    Args:
      model: the network.
      editor_state: trained, or as of `StreamEditor.init`.
      key: of everything random in the stream.
      dtype: in which the edited kernels are kept.
    """
    kernels = {name: kernel.astype(dtype) for name, kernel in model.kernels().items()}
    # A copy, for `edit_stream` takes its buffers: what was trained can start other streams.
    own = jax.tree.map(partial(jnp.array, copy=True), editor_state)
    return StreamState(kernels, own, jnp.zeros((), jnp.int32), jax.random.clone(key))


@partial(jax.jit, static_argnames="editor", donate_argnames="state")
def edit_stream(
    editor: StreamEditor, model: EditableModel, state: StreamState, stream: FactBatch
) -> tuple[StreamState, StreamTrace]:
    """Edits in all batches of ``stream``, ``[T, n, ...]``, one after another.

    ``state`` is donated. Cutting a stream into parts changes nothing: ``edit_stream`` of the second
    part from the state after the first gives the same state as both parts at once.
    """

    def step(state: StreamState, batch: FactBatch) -> tuple[StreamState, StreamTrace]:
        key = jax.random.fold_in(state.key, state.step)
        changes, own = editor.edit(model, state.kernels, state.editor, batch, key)
        kernels = commit(state.kernels, changes)
        trace = StreamTrace(
            jnp.sqrt(jnp.stack([_norm(changes, name) for name in model.modules])),
            jnp.stack([_mask(changes, name) for name in model.modules]),
        )
        return StreamState(kernels, own, state.step + 1, state.key), trace

    return jax.lax.scan(step, state, stream)


def _norm(changes: Changes, name: str) -> Array:
    return squared_norms({name: changes[name]})[name] if name in changes else jnp.zeros(())


def _mask(changes: Changes, name: str) -> Array:
    mask = changes[name].mask if name in changes else 0.0
    return jnp.asarray(1.0 if mask is None else mask, jnp.float32)
