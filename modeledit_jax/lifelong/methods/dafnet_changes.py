"""DAFNet's way from a batch of facts to changes of all modules.

The tokens of a fact are those where neither the input u of a module nor the gradient v at its
output is zero; v is of the *sum* of the cross-entropies, so it does not depend on the facts beside
it. Every module keeps a running sum of changes, ``Δ ← p Δ + lr Σ_i (c_i / len_i) Σ_tokens x₁ᵀ x₂``
(plus: the learning rate may turn negative), whose past shrinks with every fact. Source: Zhang et
al. 2024 (DAFNet), ``editors/dafnet/dafnet.py`` of the public code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.methods.dafnet_network import (
    DAFNetConfig,
    DAFNetwork,
    Transformed,
    apply_dafnet,
    store,
)
from modeledit_jax.lifelong.methods.hypernetwork import group_modules, nonzero_rows
from modeledit_jax.lifelong.methods.normalization import RunningMoments
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.token_gradients import Tokens, capture, row_facts
from modeledit_jax.types import Array, Field

Source = Literal["unedited", "current"]
"""The network that rows are read in: as it was before all edits, or as it is."""


@struct.dataclass
class FactRows:
    """Tokens of ``n`` facts at the ``m`` modules of every shape; s = d_in + d_out."""

    rows: Field  # {group: [m, r, s]} of u and v
    belongs: Field  # {group: [m, n, r] bool} which fact a row is a token of, if of any
    real: Field  # [n] bool, facts that count


@struct.dataclass
class Memory:
    """What is kept of earlier facts."""

    representations: Field  # {group: [m, b, N, s]}
    facts: Field  # () int32, ever remembered

    @classmethod
    def empty(cls, model: EditableModel, facts: int, config: DAFNetConfig) -> "Memory":
        """Of no fact, with room for so many."""
        shapes, groups = model.shapes, group_modules(model.shapes)
        representations = {
            group: jnp.zeros((len(names), config.num_layers, facts, sum(shapes[names[0]])))
            for group, names in groups.items()
        }
        return cls(representations, jnp.zeros((), jnp.int32))

    def store(self, found: Mapping[str, Transformed], real: Array) -> "Memory":
        """With the facts of a call."""
        representations = {
            group: store(past, self.facts, found[group].representations, real)
            for group, past in self.representations.items()
        }
        return Memory(representations, self.facts + real.sum(dtype=jnp.int32))


@dataclass(frozen=True)
class Reading:
    """How facts become rows, and rows changes.

    Attributes:
      network: sizes of the networks.
      tokens: which positions count, if u and v are not zero there.
      source: the network that rows are read in; ``"unedited"`` is the released one.
      detach: nothing is learned of what each fact is worth beside others (released).
    """

    network: DAFNetConfig = field(default_factory=DAFNetConfig)
    tokens: Tokens = "all"
    source: Source = "unedited"
    detach: bool = True

    def rows_of(
        self, model: EditableModel, kernels: Kernels, batch: TokenBatch, rows: int
    ) -> FactRows:
        """The tokens of a batch ``[n, l]``, with room for so many; `capture` says what is refused.

        Args:
          model: the unedited network.
          kernels: as they are; not looked at if ``source`` is the unedited network.
          batch: prompts and new answers.
          rows: static.
        """
        kernels = model.kernels() if self.source == "unedited" else kernels
        _, seen = capture(model, kernels, batch, rows, self.tokens)
        of = row_facts(batch, rows, self.tokens) == jnp.arange(batch.tokens.shape[0])[:, None]
        total = batch.scored.sum()  # `capture` differentiates the mean
        both, belongs = {}, {}
        for group, names in group_modules(model.shapes).items():
            keys, values = (
                jnp.stack([part[name] for name in names]) for part in (seen.keys, seen.values)
            )
            both[group] = jnp.concatenate([keys, total * values], axis=-1)
            used = seen.mask & nonzero_rows(keys, values)
            belongs[group] = used[:, None] & of
        return FactRows(both, belongs, batch.scored.any(-1))


def normalized(statistics: Mapping[str, RunningMoments], seen: FactRows) -> FactRows:
    """The rows, normalized by statistics that stay as they are; those of no fact are zero."""
    rows = {
        group: _blank(statistics[group].normalize(part), seen.belongs[group])
        for group, part in seen.rows.items()
    }
    return FactRows(rows, seen.belongs, seen.real)


def count_and_normalize(
    statistics: Mapping[str, RunningMoments], seen: FactRows
) -> tuple[dict[str, RunningMoments], FactRows]:
    """As in training: the statistics take in the rows of one module after another, each of which is
    normalized by what they are then. The very first row, if alone, stays as it is."""
    updated, rows = {}, {}

    def module(moments: RunningMoments, part: tuple[Array, Array]) -> tuple[RunningMoments, Array]:
        own, used = part
        alone = (moments.count == 0) & (used.sum() == 1)
        moments = moments.update(own, used)
        return moments, jnp.where(alone, own, moments.normalize(own))

    for group, part in seen.rows.items():
        belongs = seen.belongs[group]
        updated[group], found = jax.lax.scan(module, statistics[group], (part, belongs.any(axis=1)))
        rows[group] = _blank(found, belongs)
    return updated, FactRows(rows, seen.belongs, seen.real)


def _blank(rows: Array, belongs: Array) -> Array:
    return jnp.where(belongs.any(axis=1)[..., None], rows, 0.0)


def transform(
    networks: Mapping[str, DAFNetwork],
    seen: FactRows,
    memory: Memory,
    config: DAFNetConfig,
    detach: bool,
) -> dict[str, Transformed]:
    """What the networks make of normalized rows; all leaves with a leading axis m of modules."""

    def group(name: str) -> Transformed:
        def module(rows: Array, belongs: Array, past: Array, index: Array) -> Transformed:
            return apply_dafnet(
                networks[name], rows, belongs, seen.real, past, memory.facts, index, config, detach
            )

        rows = seen.rows[name]
        indices = jnp.arange(len(rows))
        return jax.vmap(module)(rows, seen.belongs[name], memory.representations[name], indices)

    return {name: group(name) for name in seen.rows}


def new_changes(
    model: EditableModel,
    networks: Mapping[str, DAFNetwork],
    seen: FactRows,
    found: Mapping[str, Transformed],
) -> Changes:
    """What the facts of a call add to the sum of changes."""
    changes = {}
    for group, names in group_modules(model.shapes).items():
        belongs, made = seen.belongs[group], found[group]
        share = made.weights / jnp.maximum(belongs.sum(-1), 1)
        of_row = jnp.where(belongs, share[..., None], 0.0).sum(1)
        size = model.shapes[names[0]][0]
        keys, values = jnp.split(_blank(made.rows, belongs), [size], axis=-1)
        values = networks[group].lr[:, None, None] * of_row[..., None] * values
        for index, name in enumerate(names):
            changes[name] = Hook(keys=keys[index], values=values[index])
    return changes


def edit_call(
    reading: Reading,
    model: EditableModel,
    kernels: Kernels,
    networks: Mapping[str, DAFNetwork],
    statistics: Mapping[str, RunningMoments],
    memory: Memory,
    seen: FactRows,
) -> tuple[Changes, Memory]:
    """Changes of the kernels as they are: what facts add to the sum of changes, and what they take
    from all earlier ones, ``(p − 1)(W − W₀)``. The statistics stay as training left them."""
    seen = normalized(statistics, seen)
    found = transform(networks, seen, memory, reading.network, reading.detach)
    new, original, changes = new_changes(model, networks, seen, found), model.kernels(), {}
    for group, names in group_modules(model.shapes).items():
        for index, name in enumerate(names):
            lost = found[group].retain[index] - 1.0
            delta = lost * (kernels[name] - original[name])
            changes[name] = Hook(keys=new[name].keys, values=new[name].values, delta=delta)
    return changes, memory.store(found, seen.real)
