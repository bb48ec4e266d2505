"""Editors whose change is a learned function of the rows of a batch: MEND, MALMEN, RLEdit, HiEdit.

They differ in the rule that turns rows into a change (`Rule`), in what they are trained on
(`meta_training`), and in whether a router picks the modules (`hiedit`). UltraEdit is the same
without a network: what the normalization alone achieves.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.low_rank import LowRankUpdate, malmen_shift, mend_shift, ultraedit_shift
from modeledit_jax.lifelong.methods.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    apply_hypernetwork,
    group_modules,
    init_hypernetworks,
    init_statistics,
    nonzero_rows,
    update_statistics,
)
from modeledit_jax.lifelong.methods.normalization import RunningMoments
from modeledit_jax.lifelong.methods.routing import Routing, masked
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.token_gradients import Rows, Tokens, capture
from modeledit_jax.types import Array, Field, Key

Rule = Literal["malmen", "mend", "ultraedit"]


@struct.dataclass
class Trainable:
    """What is trained."""

    networks: Field  # {group: Hypernetwork}; empty for UltraEdit
    router: Field = None  # Router of HiEdit, or None


@struct.dataclass
class HyperState:
    """What is learned, and what is counted from batch to batch."""

    learned: Field  # Learned
    statistics: Field  # {group: RunningMoments}


@dataclass(frozen=True)
class HypernetworkEditor:
    """A change of all modules for every batch.

    Attributes:
      rule: ``"malmen"`` (also RLEdit's), ``"mend"``, or ``"ultraedit"``, which learns nothing.
      rows: room for the tokens of a batch (or minibatch) that count (`capture.rows_needed`).
      network: size of the networks.
      tokens: which positions those are.
      learning_rate: of UltraEdit; the others learn theirs.
      routing: which modules are changed; None: all.
      minibatch: read so many facts of a batch at a time, each part with a mean loss of its own as
        the released code does; None: all at once.
      released: normalize as the released code does (`RunningMoments`).
    """

    rule: Rule
    rows: int
    network: HypernetworkConfig = field(default_factory=HypernetworkConfig)
    tokens: Tokens = "answer"
    learning_rate: float = 1e-6
    routing: Routing | None = None
    minibatch: int | None = None
    released: bool = False

    def init(self, model: EditableModel, key: Key) -> HyperState:
        """Untrained networks, which leave the normalized rows as they are."""
        network_key, router_key = jax.random.split(key)
        networks = {}
        if self.rule != "ultraedit":
            networks = init_hypernetworks(network_key, model.shapes, self.network)
        router = None if self.routing is None else self.routing.init(model, router_key)
        return HyperState(Trainable(networks, router), init_statistics(model.shapes, self.released))

    def edit(
        self, model: EditableModel, kernels: Kernels, state: HyperState, batch: FactBatch, key: Key
    ) -> tuple[Changes, HyperState]:
        """See `StreamEditor.edit`; the statistics go on counting while editing."""
        rows, state = self.observe(model, kernels, state, batch)
        changes = self.propose(model, state.learned.networks, state.statistics, rows)
        if self.routing is not None:
            mask = self.routing.choose(
                state.learned.router, model, state.statistics, rows, changes, key
            )
            changes = masked(changes, model, mask)
        return changes, state

    def observe(
        self, model: EditableModel, kernels: Kernels, state: HyperState, batch: FactBatch
    ) -> tuple[Rows, HyperState]:
        """Rows of a batch and the state whose statistics contain them; no gradient flows here.

        Raises:
          ValueError: ``minibatch`` does not divide the batch.
        """
        facts = batch.edit.tokens.shape[0]
        size = self.minibatch or facts
        if facts % size:
            raise ValueError(
                f"a batch of {facts} facts has no parts of {size}: the minibatch must divide it"
            )
        parts = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), batch.edit)
        groups = group_modules(model.shapes)

        def part(statistics: Any, edit: TokenBatch) -> tuple[Any, Rows]:
            _, rows = capture(model, kernels, edit, self.rows, self.tokens)
            return update_statistics(statistics, groups, rows.keys, rows.values, rows.mask), rows

        statistics, rows = jax.lax.scan(part, state.statistics, parts)
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)
        return rows, HyperState(state.learned, statistics)

    def propose(
        self,
        model: EditableModel,
        networks: dict[str, Hypernetwork],
        statistics: dict[str, Any],
        rows: Rows,
    ) -> Changes:
        """The changes of all modules, differentiable with respect to ``networks``."""
        changes = {}
        for group, modules in group_modules(model.shapes).items():
            keys, values = (
                jnp.stack([part[name] for name in modules]) for part in (rows.keys, rows.values)
            )
            shifts = jax.vmap(
                partial(self._shift, networks.get(group), statistics[group], rows.mask)
            )(jnp.arange(len(modules)), keys, values)
            for index, name in enumerate(modules):
                changes[name] = Hook(keys=shifts.keys[index], values=shifts.values[index])
        return changes

    def _shift(
        self,
        network: Hypernetwork | None,
        statistics: RunningMoments,
        mask: Array,
        index: Array,
        keys: Array,
        values: Array,
    ) -> LowRankUpdate:
        """The change of one module; ``index`` is its place in its group."""
        if network is None:
            return ultraedit_shift(statistics, keys, values, self.learning_rate, mask)
        pseudo = apply_hypernetwork(network, statistics, keys, values, index, self.network)
        if self.rule == "mend":
            return mend_shift(*pseudo, network.lr[index], mask & nonzero_rows(keys, values))
        return malmen_shift(keys, *pseudo, network.lr[index], network.lamda[index], mask)
