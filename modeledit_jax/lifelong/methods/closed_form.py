"""Editors that solve for the change: ROME, EMMET, MEMIT, MEMIT-seq and AlphaEdit.

What the MLP of the last edited layer should say about each subject is optimized (`edit_values`);
the edited layers then share the change (`layer_sharing`) in the least squares sense, each
restrained by what it must not disturb (`low_rank.preconditioned_shift`): the inputs of ordinary
text, and of earlier edits.
All of them are one formula with different preconditioners H:

==============  ====================================  =========
method          H                                     history
==============  ====================================  =========
ROME            ``C⁻¹``, ridge 0, fact after fact     no
EMMET, MEMIT    ``(λC)⁻¹``                            no
MEMIT-seq       ``(λC)⁻¹``                            yes
ENCORE          ``(λC + λₙ I)⁻¹``                     yes
AlphaEdit       ``P / L2``                            yes
==============  ====================================  =========

C are the second moments of a layer's inputs over a text, or the prompts of the facts to train on, P
projects on the directions these hardly have, and with a history every batch is remembered
(`low_rank.remember`) as AlphaEdit's released ``cache_c`` does. Keys are means over the prompt alone
and the prompt after sampled contexts (`ClosedForm.contexts`).
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.contexts import ContextBatch, bare_rows
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import values_known
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values, mlp_output
from modeledit_jax.lifelong.key_statistics import (
    as_array,
    covariance_preconditioner,
    identity_preconditioner,
    null_space_preconditioner,
    read_keys,
)
from modeledit_jax.lifelong.methods.layer_sharing import (
    BatchTarget,
    KeyMean,
    Preconditioners,
    edited_layers,
    key_weights,
    share,
)
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, commit
from modeledit_jax.lifelong.norm_anchor import anchored, measured_length
from modeledit_jax.lifelong.stream import StreamEditor, TrainingLoop, train_in_memory
from modeledit_jax.lifelong.subjects import at_subjects, check_subjects, counted, rows_before
from modeledit_jax.lifelong.value_writer import (
    ValueWriter,
    WriterTraining,
    train_writer,
    writer_bytes,
)
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class ClosedFormState:
    """All that the method keeps between two batches."""

    preconditioners: Field  # Preconditioners; with a history they follow the batches
    length: Field = None  # [] float32, of the values of the unedited network; None: not measured
    writer: Field = None  # ValueWriter; None: values are searched from zero


@dataclass(frozen=True)
class ClosedForm(StreamEditor):
    """A change of the MLPs' last layers for every batch.

    Attributes:
      protect: what keeps H from being the identity: ``"text"`` (C), ``"null-space"`` (P), or
        ``"nothing"``.
      weight: λ of C.
      damping: λₙ, added to λC on the diagonal (ENCORE).
      energy: share of the trace of C in the directions that P protects (`null_space`).
      size_penalty: L2 of P, or of the identity.
      ridge: c of the solve; 0 stores the values exactly.
      history: earlier batches are remembered.
      source: the network whose values are searched, as edited so far or ``"unedited"`` (ours): what
        earlier edits did to the subjects is then undone by the change, instead of built upon.
      one_by_one: edit the facts of a batch in turn, as ROME does.
      contexts: how many texts, sampled from the unedited model, the values and keys of a fact are
        found with, beside its prompt alone. ROME and MEMIT were published with 20 and 5.
      key: of a fact, from its rows: half of it that of the prompt alone and half the mean over the
        contexts (``"halves"``, MEMIT); the mean over all (``"mean"``) or the prompt alone
        (``"bare"``), the two consistent kinds of ROME (arXiv 2403.07175); or ``"released"``, ROME's
        code, which takes the direction from the mean and the length from the prompt alone.
      sharing: how the layers divide the change (`layer_sharing`): ``"even"``, as MEMIT does, or
        ``"least"``, so that text and earlier edits are moved least.
      layers: numbers of the layers whose ``mlp/down`` is edited (`edited_layers`).
      values: how the values are optimized.
      anchor: number of facts to train on, in whole batches, by whose values the length of every
        value is set (`norm_anchor`, NAS); 0: values keep their length.
      writer: how a network learns to write the values (`value_writer`), from which ``values`` then
        searches on; None: from zero.
      answer: tokens of the longest answer; None: `sized_for` finds it.
      window: positions from a subject's last token to its answer's end at most; likewise.
    """

    protect: Literal["text", "null-space", "nothing"] = "text"
    weight: float = 15_000.0
    damping: float = 0.0
    energy: float = 0.98
    size_penalty: float = 10.0
    ridge: float = 1.0
    history: bool = False
    source: Literal["current", "unedited"] = "current"
    one_by_one: bool = False
    contexts: int = 5
    key: KeyMean = "halves"
    sharing: Literal["even", "least"] = "even"
    layers: tuple[int, ...] | None = None
    values: ValueSearch = field(default_factory=ValueSearch)
    anchor: int = 0
    writer: WriterTraining | None = None
    answer: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "size_penalty"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if self.damping < 0:
            raise ValueError(f"damping={self.damping}: give a number that is not negative")
        if self.ridge < 0 or (self.history and not self.ridge):
            raise ValueError(f"ridge={self.ridge}: give a positive number, or 0 without a history")
        if not 0 <= self.energy < 1:
            raise ValueError(f"energy={self.energy}: give a share of at least 0 and below 1")
        if self.contexts < 0:
            raise ValueError(f"contexts={self.contexts}: give a number of texts, 0 for none")
        if self.anchor < 0:
            raise ValueError(f"anchor={self.anchor}: give a number of facts, 0 for none")
        if self.key == "released" and not self.one_by_one:
            raise ValueError(
                "key='released' is defined for facts edited in turn: give one_by_one=True"
            )

    def edited(self, model: EditableModel) -> dict[int, str]:
        """See `edited_layers`."""
        return edited_layers(model, self.layers)

    @property
    def reads_text(self) -> bool:
        """See `StreamEditor.reads_text`."""
        return self.protect != "nothing"

    @property
    def finds_ahead(self) -> Hashable | None:
        """See `StreamEditor.finds_ahead`: values of the unedited network that nobody writes."""
        if self.source == "current" or self.writer is not None:
            return None
        return "values", self.values, self.layers, self.contexts

    def find_ahead(self, model: EditableModel, batch: FactBatch) -> Float[Array, "n width"]:
        """The values of a batch in the unedited network."""
        return self._searched(model, model.kernels(), batch, None)

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "ClosedForm":
        """With the longest ``answer`` and ``window`` of the streams, unless they are given.

        Raises:
          ValueError: a fact without its subject; an answer or a window longer than the one given;
            layers that cannot be edited; streams all of which were encoded with fewer contexts.
        """
        self.edited(model)
        if streams:
            self._check_contexts(max(_contexts(stream) for stream in streams))
        known = [stream for stream in streams if values_known(stream)]
        for stream in known:
            check_subjects(stream)
        rows = [bare_rows(stream.edit, stream.subject_last) for stream in known]
        if self.contexts:
            rows += [stream.contexts for stream in known if stream.contexts is not None]
        sizes = [facts.sizes for facts in rows]
        found: dict[str, Any] = {}
        most = np.max([(0, 0), *sizes], axis=0)
        for name, longest in zip(("answer", "window"), most, strict=True):
            given = getattr(self, name)
            if given is not None and longest > given:
                raise ValueError(
                    f"{name}={given}: the longest {name} has {longest} tokens, give as many"
                )
            if given is None and longest:
                found[name] = int(-(-longest // 2) * 2)
        return replace(self, **found)

    def _check_contexts(self, found: int) -> None:
        if found < self.contexts:
            raise ValueError(
                f"contexts={self.contexts}: the facts were encoded with {found}; give as many to "
                "encode_task, or contexts=0 to the method"
            )

    def init(self, model: EditableModel, key: Key) -> ClosedFormState:
        """Of a method that protects nothing; the others have to be trained.

        Raises:
          ValueError: this one protects something, or measures values.
        """
        if self.protect != "nothing":
            raise ValueError(
                f"protect={self.protect!r} needs the statistics of text: train the method first, "
                "on facts about other subjects"
            )
        if self.learns:
            raise ValueError(f"{self.learns}: train the method first, on facts about others")
        return ClosedFormState(self._identities(model))

    def _identities(self, model: EditableModel) -> Preconditioners:
        return {
            name: as_array(identity_preconditioner(model.shapes[name][0], self.size_penalty),
                           model.dtype)
            for name in self.edited(model).values()
        }  # fmt: skip

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> ClosedFormState:
        """Finds what to protect: what the modules read on a text, or else on the prompts of
        the facts to train on (`EditableModel.statistics`); and how long values are.

        Raises:
          ValueError: something is to be protected or measured and there is nothing to read;
            ``energy`` that protects everything.
        """
        if self.learns and stream is None:
            raise ValueError(f"{self.learns}: give facts about other subjects to train on")
        state = ClosedFormState(self._protecting(model, stream, loop))
        if not self.learns or stream is None:
            return state
        facts = replace(stream, contexts=None)
        given = (max(self.edited(model)), self.values, (self.answer, self.window))
        if self.anchor:
            batches = -(-self.anchor // stream.real.shape[1])
            pilot = jax.tree.map(lambda leaf: leaf[:batches], facts)
            state = replace(state, length=measured_length(model, pilot, *given, loop))
        if self.writer is not None:
            writer = train_writer(model, facts, *given, self.writer, key, loop)
            state = replace(state, writer=writer)
        return state

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """See `StreamEditor.training_bytes`: of the writer."""
        if self.writer is None:
            return 0
        given = (max(self.edited(model)), self.values, (self.answer, self.window))
        return writer_bytes(model, replace(stream, contexts=None), *given, self.writer)

    @property
    def learns(self) -> str:
        """What it needs facts to train on for; empty: nothing."""
        if self.anchor:
            return f"anchor={self.anchor} needs the values of facts"
        return "" if self.writer is None else "writer needs facts to learn from"

    def _protecting(
        self, model: EditableModel, stream: FactBatch | None, loop: TrainingLoop
    ) -> Preconditioners:
        if self.protect == "nothing":
            return self._identities(model)
        read = model.statistics
        if read is None:
            if stream is None:
                raise ValueError(
                    f"protect={self.protect!r} needs the statistics of text: name a text, or give "
                    "facts about other subjects to train on"
                )
            read = read_keys(model, stream, loop)
        found = {}
        for name in self.edited(model).values():
            inverted = self.protect == "text" and not self.damping
            covariance = read.covariance(name, invertible=inverted)
            if self.protect == "text":
                matrix = covariance_preconditioner(covariance, self.weight, self.damping)
            else:
                matrix = null_space_preconditioner(covariance, self.energy, self.size_penalty)
            found[name] = as_array(matrix, model.dtype)
        return found

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`; of the values, all facts of a batch side by side."""
        return (self.writer.updates if self.writer else 0) + (self.values.steps - 1) * batches

    def edit(
        self,
        model: EditableModel,
        kernels: Kernels,
        state: ClosedFormState,
        batch: FactBatch,
        key: Key,
    ) -> tuple[Changes, ClosedFormState]:
        """See `StreamEditor.edit`."""
        if not self.one_by_one:
            return self._edit_together(model, kernels, state, batch)
        apart = jax.tree.map(lambda leaf: leaf[:, None], batch)

        def one(carry: tuple[Kernels, ClosedFormState], fact: FactBatch) -> tuple[Any, None]:
            kernels, state = carry
            changes, state = self._edit_together(model, kernels, state, fact)
            return (commit(kernels, changes), state), None

        (after, state), _ = jax.lax.scan(one, (kernels, state), apart)
        changed = self.edited(model).values()
        return {name: Hook(delta=after[name] - kernels[name]) for name in changed}, state

    def _edit_together(
        self, model: EditableModel, kernels: Kernels, state: ClosedFormState, batch: FactBatch
    ) -> tuple[Changes, ClosedFormState]:
        """The facts of a batch at once (``memit_main.py``)."""
        return self.solve(self.target(model, kernels, state, batch), state)

    def target(
        self, model: EditableModel, kernels: Kernels, state: ClosedFormState, batch: FactBatch
    ) -> BatchTarget:
        """What the edited layers are to say of a batch; arguments as in `edit`."""
        edited, facts = self.edited(model), self._rows(batch)
        lowest, top = min(edited), max(edited)
        read = partial(at_subjects, model.config, model.with_kernels(kernels))
        source = model.kernels() if self.source == "unedited" else kernels
        read_source = partial(at_subjects, model.config, model.with_kernels(source))
        # All that is edited lies above: this part of the network is run once for every row.
        below = (lowest, rows_before(model, model.params, facts, lowest))
        found = self.finds_ahead is not None and batch.values is not None
        wanted = batch.values if found else self._searched(model, source, batch, state.writer)
        bare, stream = slice(0, 1), (f"layers/{top}",)
        asked = slice(0, 1 if self.key == "bare" else self.contexts + 1)
        if state.length is not None:
            keys = read_source(facts, below, bare, {}, (edited[top],))[0][:, 0]
            output = mlp_output(model.with_kernels(source), top, keys)
            wanted = anchored(wanted, output, state.length)
        goal = read_source(facts, below, bare, {}, stream)[0][:, 0] + wanted

        def rest(changes: Changes) -> Array:
            if model.config.post_norms:  # one layer alone, whose output is not the stream's change
                return wanted
            return goal - read(facts, below, bare, changes, stream)[0][:, 0]

        weights = key_weights(self.key, facts.subject[:, asked].shape[1], wanted.dtype)
        inputs = partial(read, facts, below, asked)
        return BatchTarget(tuple(edited.values()), rest, inputs, weights, counted(batch))

    def solve(
        self, target: BatchTarget, state: ClosedFormState, mask: Float[Array, " M"] | None = None
    ) -> tuple[Changes, ClosedFormState]:
        """The changes that reach a target, by those layers that a mask lets change (`share`), and
        the state after them."""
        changes, remembered = share(
            target,
            state.preconditioners,
            self.ridge,
            evenly=self.sharing == "even",
            remembers=self.history,
            released=self.key == "released",
            mask=mask,
        )
        return changes, replace(state, preconditioners=remembered)

    def _searched(
        self, model: EditableModel, source: Kernels, batch: FactBatch, writer: ValueWriter | None
    ) -> Float[Array, "n width"]:
        """The values of a batch in the network with some kernels."""
        edited, facts = self.edited(model), self._rows(batch)
        lowest, top = min(edited), max(edited)
        below = (lowest, rows_before(model, model.params, facts, lowest))
        room = (self.answer, self.window)
        real = counted(batch)
        found = edit_values(model, source, facts, real, top, self.values, *room, below, writer)
        return found.delta

    def _rows(self, batch: FactBatch) -> ContextBatch:
        """The rows of a batch that the method reads."""
        self._check_contexts(_contexts(batch))
        if batch.contexts is None or not self.contexts:
            return bare_rows(batch.edit, batch.subject_last)
        return batch.contexts.first(self.contexts)


def _contexts(batch: FactBatch) -> int:
    return 0 if batch.contexts is None else batch.contexts.contexts
