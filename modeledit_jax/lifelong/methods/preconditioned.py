"""Low-rank changes of another method, delivered so that ordinary text and earlier edits feel less.

MALMEN, RLEdit and UltraEdit choose among the changes that give the edited inputs K their wanted
outputs the smallest one. The closed-form methods choose the one that moves the outputs of ordinary
text least. Here the one choice is put in place of the other: what a method's change does to its own
inputs, ``D = K Δ``, is done by the Δ that minimizes ``‖K Δ − D‖² + c tr(Δᵀ (λC + I + ΣKᵀK/c) Δ)``,
C the second moments of the layer's inputs over text, the sum over earlier batches.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.key_statistics import KeyStatistics, as_array, read_keys, text_and_size
from modeledit_jax.lifelong.low_rank import preconditioned_shift, remember
from modeledit_jax.lifelong.methods.restraint import Restrained
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.stream import TrainingLoop, train_in_memory
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class PreconditionedState:
    """Of the method, and H of every module ``[d_in, d_in]``."""

    editor: Field  # pytree of the method
    preconditioners: Field  # {module: H}


@dataclass(frozen=True)
class Preconditioned(Restrained):
    """A method whose changes spare text and earlier edits; it learns as it would alone.

    Attributes:
      editor: the method; its changes are low-rank, with the inputs of the layer as keys (UltraEdit,
        MALMEN, RLEdit, HiEdit).
      weight: λ of C: so many average tokens an edited one counts against. 0: nothing is read.
      ridge: c.
      history: the inputs of earlier batches are spared, each as a token of text with λ = 1.
    """

    weight: float = 100.0
    ridge: float = 1.0
    history: bool = True

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight={self.weight}: give a number that is not negative")
        if self.ridge <= 0:
            raise ValueError(f"ridge={self.ridge}: give a positive number")

    @property
    def reads_text(self) -> bool:
        """See `StreamEditor.reads_text`."""
        return self.weight > 0

    def init(self, model: EditableModel, key: Key) -> PreconditionedState:
        """With nothing known of text.

        Raises:
          ValueError: text is to be spared: the method has to be trained first.
        """
        if self.weight:
            raise ValueError(
                f"weight={self.weight} needs the statistics of text: train the method first, on "
                "facts about other subjects, or give weight=0"
            )
        return self._state(model, self.editor.init(model, key), None)

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> PreconditionedState:
        """Trains the method, and reads the prompts of the facts that it learns from, unless the
        statistics of a text are known.

        Raises:
          ValueError: text is to be spared and there is none; see the method's own.
        """
        trained = self.editor.train(model, stream, key, loop)
        read = model.statistics if self.weight else None
        if self.weight and read is None:
            if stream is None:
                raise ValueError(
                    f"weight={self.weight} needs the statistics of text: name a text, give facts "
                    "about other subjects to train on, or weight=0"
                )
            read = read_keys(model, stream, loop)
        return self._state(model, trained, read)

    def _state(
        self, model: EditableModel, editor: Any, read: KeyStatistics | None
    ) -> PreconditionedState:
        found = {}
        for name, (d_in, _) in model.shapes.items():
            covariance = None if read is None else read.covariance(name)
            found[name] = as_array(text_and_size(covariance, self.weight, d_in), model.dtype)
        return PreconditionedState(editor, found)

    def edit(
        self,
        model: EditableModel,
        kernels: Kernels,
        state: PreconditionedState,
        batch: FactBatch,
        key: Key,
    ) -> tuple[Changes, PreconditionedState]:
        """See `StreamEditor.edit`.

        Raises:
          ValueError: a change of the method that is not low-rank.
        """
        changes, editor = self.editor.edit(model, kernels, state.editor, batch, key)
        after, spared = {}, dict(state.preconditioners)
        for name, change in changes.items():
            if change.keys is None or change.delta is not None:
                raise ValueError(
                    f"the change of {name} is not low-rank: {type(self.editor).__name__} cannot be "
                    "preconditioned"
                )
            after[name], spared[name] = self._spare(change, spared[name])
        return after, PreconditionedState(editor, spared)

    def _spare(self, change: Hook, preconditioner: Array) -> tuple[Hook, Array]:
        keys, exactly = change.keys, jax.lax.Precision.HIGHEST
        real = (keys != 0).any(-1)
        gram = jnp.matmul(keys, keys.T, precision=exactly)
        wanted = jnp.matmul(gram, change.values, precision=exactly)
        update = preconditioned_shift(keys, wanted, preconditioner, self.ridge, real)
        if self.history:
            preconditioner = remember(preconditioner, keys, self.ridge, real)
        return replace(change, keys=update.keys, values=update.values), preconditioner
