"""Editors whose change is a learned function of the rows of a batch: MEND, MALMEN, RLEdit, HiEdit.

They differ in the rule that turns rows into a change (`Rule`), in what they are trained on
(`meta_training`), and in whether a router picks the modules (`routing`). UltraEdit is the same
without a network: what the normalization alone achieves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.low_rank import LowRankUpdate, malmen_shift, mend_shift, ultraedit_shift
from modeledit_jax.lifelong.methods.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    HyperState,
    Trainable,
    apply_hypernetwork,
    group_modules,
    init_hypernetworks,
    init_statistics,
    nonzero_rows,
    update_statistics,
)
from modeledit_jax.lifelong.methods.meta_training import (
    MetaState,
    MetaTraining,
    compiled_train_steps,
    start_training,
    train_steps,
)
from modeledit_jax.lifelong.methods.normalization import RunningMoments
from modeledit_jax.lifelong.methods.routing import Routing, masked
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.stream import CHUNK, StreamEditor, TrainingLoop, train_in_memory
from modeledit_jax.lifelong.token_gradients import Rows, Tokens, capture, check_rows, rows_needed
from modeledit_jax.memory import live_bytes, tree_bytes
from modeledit_jax.types import Array, Key

Rule = Literal["malmen", "mend", "ultraedit"]


@dataclass(frozen=True)
class HypernetworkEditor(StreamEditor):
    """A change of all modules for every batch.

    Attributes:
      rule: ``"malmen"`` (also RLEdit's), ``"mend"``, or ``"ultraedit"``, which learns nothing.
      rows: room for the tokens of a batch (or minibatch) that count; None: for all its positions,
        which `sized_for` narrows to those that count. Fewer than a batch has are refused.
      network: size of the networks.
      tokens: which positions those are.
      learning_rate: of UltraEdit; the others learn theirs.
      routing: which modules are changed; None: all.
      minibatch: read so many facts of a batch at a time, each part with a mean loss of its own as
        the released code does; None: all at once.
      training: how the networks learn; None: they do not.
      released: normalize as the released code does (`RunningMoments`).
    """

    rule: Rule
    rows: int | None = None
    network: HypernetworkConfig = field(default_factory=HypernetworkConfig)
    tokens: Tokens = "answer"
    learning_rate: float = 1e-6
    routing: Routing | None = None
    minibatch: int | None = None
    training: MetaTraining | None = None
    released: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "minibatch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: give at least 1, or None")

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "HypernetworkEditor":
        """With as many ``rows`` as the fullest batch of the streams needs, unless they are given.

        They come in eights, so that streams differ less and more is compiled once.

        Raises:
          ValueError: ``rows`` are given, and too few for a batch; ``minibatch`` does not divide it.
        """
        for stream in streams:
            self._check_minibatch(stream.edit)
        if self.rows is not None:
            for stream in streams:
                check_rows(stream.edit, self.rows, self.tokens, self.minibatch)
            return self
        needed = max(rows_needed(stream.edit, self.tokens) for stream in streams)
        return replace(self, rows=-(-needed // 8) * 8)

    def init(self, model: EditableModel, key: Key) -> HyperState:
        """Untrained networks, which leave the normalized rows as they are."""
        network_key, router_key = jax.random.split(key)
        networks = {}
        if self.rule != "ultraedit":
            networks = init_hypernetworks(network_key, model.shapes, self.network)
        router = None if self.routing is None else self.routing.init(model, router_key)
        return HyperState(Trainable(networks, router), init_statistics(model.shapes, self.released))

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> HyperState:
        """See `StreamEditor.train`.

        Raises:
          ValueError: there is something to be learned, and nothing to learn from, or its batches do
            not fit (`sized_for`).
        """
        training = self.training
        if training is None:
            return self.init(model, key)
        if stream is None:
            raise ValueError(
                "this editor learns from facts about other subjects: give it some to train on, "
                "or training=None"
            )

        def advance(state: MetaState, done: int, steps: int) -> tuple[MetaState, dict[str, Array]]:
            return train_steps(self, training, model, state, stream, steps)

        start = start_training(self, training, model, key)
        total = training.steps(stream.batches)
        return loop(start, advance, total, metrics=("loss", "gradient_norm")).editor

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """See `StreamEditor.training_bytes`."""
        training = self.training
        if training is None:
            return 0
        steps = min(CHUNK, training.steps(stream.batches))
        start = partial(start_training, self, training)
        state = jax.eval_shape(start, model, jax.eval_shape(jax.random.key, 0))

        def run(model: EditableModel, state: MetaState, stream: FactBatch) -> Any:
            # As `train_steps` calls it, so that it is traced once.
            return compiled_train_steps(self, training, model, state, stream, steps)

        return tree_bytes(state) + live_bytes(run, model, state, stream)

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`."""
        return 0 if self.training is None else self.training.updates

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
          ValueError: ``minibatch`` does not divide the batch; ``rows`` are too few for it, where
            its tokens are known (`token_gradients.capture`); the state is of other modules.
        """
        self._check_minibatch(batch.edit)
        self._check_state(model, state)
        if self.rows is not None:
            check_rows(batch.edit, self.rows, self.tokens, self.minibatch)
        size = self.minibatch or batch.edit.tokens.shape[0]
        rows = size * batch.edit.tokens.shape[1] if self.rows is None else self.rows
        parts = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), batch.edit)
        groups = group_modules(model.shapes)

        def part(statistics: Any, edit: TokenBatch) -> tuple[Any, Rows]:
            _, seen = capture(model, kernels, edit, rows, self.tokens)
            return update_statistics(statistics, groups, seen.keys, seen.values, seen.mask), seen

        statistics, seen = jax.lax.scan(part, state.statistics, parts)
        seen = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), seen)
        return seen, HyperState(state.learned, statistics)

    def _check_state(self, model: EditableModel, state: HyperState) -> None:
        """A network of fewer modules would be read beyond its end, which JAX clamps."""
        networks = state.learned.networks
        groups = group_modules(model.shapes)
        trained = {group: network.lr.shape[-1] for group, network in networks.items()}
        needed = {group: len(modules) for group, modules in groups.items()}
        if set(state.statistics) != set(needed) or (self.rule != "ultraedit" and trained != needed):
            raise ValueError(
                f"the state of the editor is of {trained or set(state.statistics)} modules by "
                f"shape, the model edits {needed}: train it on this model"
            )

    def _check_minibatch(self, edit: TokenBatch) -> None:
        facts = edit.tokens.shape[-2]
        if facts % (self.minibatch or facts):
            raise ValueError(
                f"a batch of {facts} facts has no parts of {self.minibatch}: the minibatch must "
                "divide it"
            )

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
