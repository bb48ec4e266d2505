"""Restraints on the changes of another method: RECT keeps some entries, PRUNE bounds their sum."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, commit, dense_change
from modeledit_jax.lifelong.stream import StreamEditor, TrainingLoop, train_in_memory
from modeledit_jax.types import Array, Field, Key

_HIGHEST = jax.lax.Precision.HIGHEST


@dataclass(frozen=True)
class Restrained(StreamEditor):
    """A method some of whose changes are held back; all but `edit` is that of the method.

    Attributes:
      editor: the method.
    """

    editor: StreamEditor

    @property
    def contexts(self) -> int:
        """See `StreamEditor.contexts`."""
        return self.editor.contexts

    @property
    def reads_text(self) -> bool:
        """See `StreamEditor.reads_text`."""
        return self.editor.reads_text

    @property
    def finds_ahead(self) -> Hashable | None:
        """See `StreamEditor.finds_ahead`."""
        return self.editor.finds_ahead

    def find_ahead(self, model: EditableModel, batch: FactBatch) -> Array:
        """See `StreamEditor.find_ahead`."""
        return self.editor.find_ahead(model, batch)

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "Restrained":
        """See `StreamEditor.sized_for`."""
        return replace(self, editor=self.editor.sized_for(model, streams))

    def init(self, model: EditableModel, key: Key) -> Any:
        """See `StreamEditor.init`."""
        return self.editor.init(model, key)

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> Any:
        """See `StreamEditor.train`."""
        return self.editor.train(model, stream, key, loop)

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """See `StreamEditor.training_bytes`."""
        return self.editor.training_bytes(model, stream)

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`."""
        return self.editor.gradient_steps(batches)


@dataclass(frozen=True)
class Rect(Restrained):
    """RECT (arXiv 2401.04700): of every change, the entries that are large beside their weights.

    Attributes:
      keep: share of the entries of each change that stay. The port that published tables use has
        0.4, the original script 0.2.
    """

    keep: float = 0.4

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep}: give a share above 0 and at most 1")

    def edit(
        self, model: EditableModel, kernels: Kernels, state: Any, batch: FactBatch, key: Key
    ) -> tuple[Changes, Any]:
        """See `StreamEditor.edit`."""
        changes, state = self.editor.edit(model, kernels, state, batch, key)
        if self.keep == 1:
            return changes, state
        return {name: self._kept(kernels[name], hook) for name, hook in changes.items()}, state

    def _kept(self, kernel: Array, change: Hook) -> Hook:
        delta = dense_change(change)
        return Hook(delta=jnp.where(largest_beside(delta, kernel, self.keep), delta, 0))


def largest_beside(
    delta: Float[Array, "m n"], kernel: Float[Array, "m n"], keep: float
) -> Bool[Array, "m n"]:
    """Where ``|Δ / (W + 1e-8)|`` is at least its ``⌊(1 − keep) · size⌋``-th smallest value."""
    ratio = jnp.abs(delta / (kernel + 1e-8))
    rank = int((1 - keep) * ratio.size + 1e-9)
    return ratio >= kth_smallest(ratio, max(rank, 1))


def kth_smallest(values: Float[Array, "..."], k: int) -> Float[Array, ""]:
    """The k-th smallest of values that are not negative, ``k`` from 1 on, without sorting them.

    Floats that are not negative are in the order of their bits, which are found one after another:
    a matrix of 60 million entries is read 31 times and never copied.
    """
    kind = jnp.int64 if values.dtype == jnp.float64 else jnp.int32
    bits = jax.lax.bitcast_convert_type(values, kind)
    highest = jnp.iinfo(kind).bits - 2

    def step(index: Array, found: Array) -> Array:
        bit = jnp.left_shift(jnp.ones((), kind), (highest - index).astype(kind))
        below = (bits < found + bit).sum()
        return jnp.where(below >= k, found, found + bit)

    found = jax.lax.fori_loop(0, highest + 1, step, jnp.zeros((), kind))
    return jax.lax.bitcast_convert_type(found, values.dtype)


@struct.dataclass
class PruneState:
    """Of the method, and the kernels as they would be without restraint."""

    editor: Field  # pytree of the method
    kernels: Field  # Kernels
    bounds: Field  # {module: ()} largest singular values of the unedited kernels


@dataclass(frozen=True)
class Prune(Restrained):
    """PRUNE (arXiv 2405.16821): the sum of all changes has no singular values above the kernel's.

    A singular value σ of ``W_N − W_0`` that is above ``s0 = σ_max(W_0)`` becomes
    ``s0 + log_b(σ / s0)``. The method itself goes on from what it has done, without restraint.

    Attributes:
      base: b of the logarithm.
      threshold: s0, in units of the largest singular value of the unedited kernel.
    """

    base: float = 2.718281828459045
    threshold: float = 1.0

    def __post_init__(self) -> None:
        if self.base <= 1 or self.threshold <= 0:
            raise ValueError(
                f"base={self.base}, threshold={self.threshold}: give a base above 1 and a positive "
                "threshold"
            )

    def init(self, model: EditableModel, key: Key) -> PruneState:
        """See `StreamEditor.init`."""
        return self._start(model, self.editor.init(model, key))

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> PruneState:
        """See `StreamEditor.train`."""
        return self._start(model, self.editor.train(model, stream, key, loop))

    def _start(self, model: EditableModel, state: Any) -> PruneState:
        kernels = model.kernels()
        bounds = {name: jnp.linalg.norm(w, 2) * self.threshold for name, w in kernels.items()}
        return PruneState(state, kernels, bounds)

    def edit(
        self, model: EditableModel, kernels: Kernels, state: PruneState, batch: FactBatch, key: Key
    ) -> tuple[Changes, PruneState]:
        """See `StreamEditor.edit`."""
        changes, inner = self.editor.edit(model, state.kernels, state.editor, batch, key)
        free, unedited, restrained = commit(state.kernels, changes), model.kernels(), {}
        for name in changes:
            total = shrink(free[name] - unedited[name], state.bounds[name], self.base)
            restrained[name] = Hook(delta=unedited[name] + total - kernels[name])
        return restrained, PruneState(inner, free, state.bounds)


def shrink(
    delta: Float[Array, "m n"], bound: float | Float[Array, ""], base: float
) -> Float[Array, "m n"]:
    """Δ with its singular values above ``bound`` brought down to ``bound + log_b(σ / bound)``.

    From the eigenvectors of the smaller Gram matrix; Δ itself where nothing is above the bound.
    """
    wide = delta.shape[0] < delta.shape[1]
    rows = delta.T if wide else delta
    squares, vectors = jnp.linalg.eigh(jnp.matmul(rows.T, rows, precision=_HIGHEST))
    sizes = jnp.sqrt(jnp.maximum(squares, 0))
    above = sizes > bound
    safe = jnp.where(above, sizes, bound)
    factor = jnp.where(above, (bound + jnp.log(safe / bound) / jnp.log(base)) / safe, 1.0)
    taken = jnp.matmul(rows, vectors * (factor - 1), precision=_HIGHEST)
    shrunk = rows + jnp.matmul(taken, vectors.T, precision=_HIGHEST)
    shrunk = jnp.where(above.any(), shrunk, rows)
    return shrunk.T if wide else shrunk
