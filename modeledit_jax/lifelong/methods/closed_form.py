"""Editors that solve for the change: ROME, EMMET, MEMIT, MEMIT-seq and AlphaEdit.

What the MLP of the last edited layer should say about each subject is optimized (`edit_values`);
the edited layers then share the change in the least squares sense, each restrained by what it must
not disturb (`low_rank.preconditioned_shift`): the inputs of ordinary text, and of earlier edits.
All of them are one formula with different preconditioners H:

==============  ====================================  =========
method          H                                     history
==============  ====================================  =========
ROME            ``C⁻¹``, ridge 0, fact after fact     no
EMMET, MEMIT    ``(λC)⁻¹``                            no
MEMIT-seq       ``(λC)⁻¹``                            yes
AlphaEdit       ``P / L2``                            yes
==============  ====================================  =========

C are the second moments of a layer's inputs over the prompts of the facts to train on, P projects
on the directions these hardly have, and with a history every batch is remembered
(`low_rank.remember`) as AlphaEdit's released ``cache_c`` does. Keys are those of the prompt alone,
without the released code's sampled contexts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, values_known
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values
from modeledit_jax.lifelong.key_statistics import (
    as_array,
    covariance_preconditioner,
    identity_preconditioner,
    null_space_preconditioner,
    read_keys,
)
from modeledit_jax.lifelong.low_rank import preconditioned_shift, remember
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, commit
from modeledit_jax.lifelong.stream import StreamEditor, TrainingLoop, train_in_memory
from modeledit_jax.types import Array, Key

Preconditioners: TypeAlias = dict[str, Array]
"""H ``[d_in, d_in]`` of every edited module: all that the method keeps between two batches."""


@dataclass(frozen=True)
class ClosedForm(StreamEditor):
    """A change of the MLPs' last layers for every batch.

    Attributes:
      protect: what keeps H from being the identity: ``"text"`` (C), ``"null-space"`` (P), or
        ``"nothing"``.
      weight: λ of C.
      energy: share of the trace of C in the directions that P protects (`null_space`).
      size_penalty: L2 of P, or of the identity.
      ridge: c of the solve; 0 stores the values exactly.
      history: earlier batches are remembered.
      one_by_one: edit the facts of a batch in turn, as ROME does.
      layers: numbers of the layers whose ``mlp/down`` is edited, of those that the model allows;
        None: all but the network's last, above whose MLP nothing reads the subject.
      values: how the values are optimized.
      answer: tokens of the longest answer; None: `sized_for` finds it.
    """

    protect: Literal["text", "null-space", "nothing"] = "text"
    weight: float = 15_000.0
    energy: float = 0.98
    size_penalty: float = 10.0
    ridge: float = 1.0
    history: bool = False
    one_by_one: bool = False
    layers: tuple[int, ...] | None = None
    values: ValueSearch = field(default_factory=ValueSearch)
    answer: int | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "size_penalty"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if self.ridge < 0 or (self.history and not self.ridge):
            raise ValueError(f"ridge={self.ridge}: give a positive number, or 0 without a history")
        if not 0 <= self.energy < 1:
            raise ValueError(f"energy={self.energy}: give a share of at least 0 and below 1")

    def edited(self, model: EditableModel) -> dict[int, str]:
        """``{layer: module}`` in the order of the layers.

        Raises:
          ValueError: a layer that the model does not allow, or none; several layers of a network
            that normalizes what its MLPs say, which cannot be shared.
        """
        allowed = {
            int(name.split("/")[1]): name for name in model.modules if name.endswith("/mlp/down")
        }
        default = tuple(layer for layer in allowed if layer < model.config.num_layers - 1)
        chosen = default if self.layers is None else self.layers
        if missing := sorted(set(chosen) - set(allowed)):
            raise ValueError(
                f"layers {missing} are not among those whose mlp/down may be edited, "
                f"{sorted(allowed)}: change layers of the method or modules of the model"
            )
        if not chosen:
            raise ValueError(
                f"no layer to edit: of {', '.join(model.modules)} none is an mlp/down below the "
                "network's last layer; add one to the modules, or name layers of the method"
            )
        if model.config.post_norms and len(chosen) > 1:
            raise ValueError(
                f"layers {sorted(chosen)} cannot share a change: this network normalizes what its "
                "MLPs add; name one layer of the method"
            )
        return {layer: allowed[layer] for layer in sorted(chosen)}

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "ClosedForm":
        """With the tokens of the longest ``answer`` of the streams, unless they are given.

        Raises:
          ValueError: a fact without its subject; an answer longer than ``answer``; layers that
            cannot be edited.
        """
        self.edited(model)
        known = [stream for stream in streams if values_known(stream)]
        for stream in known:
            lacking = np.asarray(stream.real) & (np.asarray(stream.subject_last) < 0)
            if lacking.any():
                raise ValueError(
                    f"{lacking.sum()} facts do not say what they are about: closed-form editing "
                    "needs the subject of each, spelled as in its prompt"
                )
        labels = [np.asarray(stream.edit.labels) != IGNORED for stream in known]
        longest = max((int(label.sum(-1).max()) for label in labels), default=0)
        if self.answer is not None:
            if longest > self.answer:
                raise ValueError(
                    f"answer={self.answer}: the longest answer has {longest} tokens, give as many"
                )
            return self
        return replace(self, answer=-(-longest // 2) * 2) if longest else self

    def init(self, model: EditableModel, key: Key) -> Preconditioners:
        """Of a method that protects nothing; the others have to be trained.

        Raises:
          ValueError: this one protects something.
        """
        if self.protect != "nothing":
            raise ValueError(
                f"protect={self.protect!r} needs the statistics of text: train the method first, "
                "on facts about other subjects"
            )
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
    ) -> Preconditioners:
        """Reads the prompts of the facts to train on, and keeps what has to be protected.

        Raises:
          ValueError: something is to be protected and there is nothing to read; ``energy`` that
            protects everything.
        """
        if self.protect == "nothing":
            return self.init(model, key)
        if stream is None:
            raise ValueError(
                f"protect={self.protect!r} needs the statistics of text: give facts about other "
                "subjects to train on"
            )

        read = read_keys(model, stream, loop)
        found = {}
        for name in self.edited(model).values():
            covariance = read.covariance(name)
            if self.protect == "text":
                matrix = covariance_preconditioner(covariance, self.weight)
            else:
                matrix = null_space_preconditioner(covariance, self.energy, self.size_penalty)
            found[name] = as_array(matrix, model.dtype)
        return found

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`; of the values, all facts of a batch side by side."""
        return (self.values.steps - 1) * batches

    def edit(
        self,
        model: EditableModel,
        kernels: Kernels,
        state: Preconditioners,
        batch: FactBatch,
        key: Key,
    ) -> tuple[Changes, Preconditioners]:
        """See `StreamEditor.edit`."""
        if not self.one_by_one:
            return self._edit_together(model, kernels, state, batch)
        apart = jax.tree.map(lambda leaf: leaf[:, None], batch)

        def one(carry: tuple[Kernels, Preconditioners], fact: FactBatch) -> tuple[Any, None]:
            kernels, state = carry
            changes, state = self._edit_together(model, kernels, state, fact)
            return (commit(kernels, changes), state), None

        (after, state), _ = jax.lax.scan(one, (kernels, state), apart)
        changed = self.edited(model).values()
        return {name: Hook(delta=after[name] - kernels[name]) for name in changed}, state

    def _edit_together(
        self, model: EditableModel, kernels: Kernels, state: Preconditioners, batch: FactBatch
    ) -> tuple[Changes, Preconditioners]:
        """The facts of a batch at once, one layer after another, each doing its share of the rest
        (``memit_main.py``)."""
        edited, subject = self.edited(model), batch.subject_last
        real = batch.real & (subject >= 0)
        top = max(edited)
        value = edit_values(
            model, kernels, batch.edit, subject, real, top, self.values, self.answer
        )
        read = partial(_keys_and_stream, model, kernels, batch, top)
        goal = read({}, edited[top])[1] + value.delta
        changes: Changes = {}
        remembered = dict(state)
        for index, (_, module) in enumerate(edited.items()):
            keys, stream = read(changes, module)
            rest = value.delta if model.config.post_norms else goal - stream
            targets = rest / (len(edited) - index)
            update = preconditioned_shift(keys, targets, state[module], self.ridge, real)
            changes[module] = Hook(keys=update.keys, values=update.values)
            if self.history:
                remembered[module] = remember(state[module], keys, self.ridge, real)
        return changes, remembered


def _keys_and_stream(
    model: EditableModel,
    kernels: Kernels,
    batch: FactBatch,
    top: int,
    changes: Changes,
    module: str,
) -> tuple[Array, Array]:
    """Inputs of a module ``[n, d_in]`` and the residual stream after layer ``top``, ``[n, width]``,
    both at the subjects; the layers above are never run, for nobody asks for them."""
    edit, stream = batch.edit, f"layers/{top}"
    seen = model.forward(kernels, edit, changes, (module, stream))[1]
    rows, places = jnp.arange(len(edit.tokens)), jnp.maximum(batch.subject_last, 0)
    keys, after = (seen[name][rows, places].astype(model.dtype) for name in (module, stream))
    return keys, after
