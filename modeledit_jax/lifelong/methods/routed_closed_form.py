"""HiEdit's high level on closed-form editing: which layers change is chosen batch by batch.

HiEdit (arXiv 2604.11214) names it as future work. A router reads, of every layer that may change,
the keys of the batch at their subjects and what is to be added to the stream there (in the place of
HiEdit's inputs u and gradients v), and scores the layers, and with ``learn_count`` their number.
The layers that are chosen share all of the change (`layer_sharing.share`); the others stay bit for
bit as they are, and remember the batch as if they had changed, so that later batches spare what
they say of it.
"""

from dataclasses import dataclass, field

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.methods.closed_form import ClosedForm
from modeledit_jax.lifelong.methods.layer_sharing import BatchTarget
from modeledit_jax.lifelong.methods.restraint import Restrained
from modeledit_jax.lifelong.methods.router_training import (
    LearnedRouter,
    RouterTraining,
    init_learned,
    routed_model,
    router_bytes,
    train_router,
)
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.stream import TrainingLoop, train_in_memory
from modeledit_jax.types import Array, Field, Key


@struct.dataclass
class RoutedState:
    """All that the method keeps between two batches."""

    editor: Field  # ClosedFormState
    learned: Field = None  # LearnedRouter; None: layers are chosen by a rule


@dataclass(frozen=True)
class RoutedClosedForm(Restrained):
    """A closed-form method that changes some of its layers at a time.

    Attributes:
      editor: the method; its ``layers`` are those to choose from.
      routing: how; its modules are the ``mlp/down`` of these layers, from the lowest on. Rules
        without learning are controls: ``"random"``, ``"fixed"`` and ``"norm"`` (the layers that
        would change most if all did); with ``"dense"`` it is the method itself.
      training: how the router learns.
    """

    editor: ClosedForm
    routing: Routing = field(default_factory=Routing)
    training: RouterTraining = field(default_factory=RouterTraining)

    def __post_init__(self) -> None:
        if self.editor.one_by_one:
            raise ValueError("layers are chosen for a batch: give an editor with one_by_one=False")
        if self._learns and self.routing.gradient != "reinforce":
            raise ValueError(
                f"gradient={self.routing.gradient!r}: a choice of layers for closed-form editing "
                "is learned from draws, give 'reinforce'"
            )

    @property
    def _learns(self) -> bool:
        return self.routing.how == "learned"

    def init(self, model: EditableModel, key: Key) -> RoutedState:
        """With an untrained router; errors as of `ClosedForm.init`."""
        learned = init_learned(self.editor, self.routing, model, key)
        return RoutedState(self.editor.init(model, key), learned)

    def train(
        self,
        model: EditableModel,
        stream: FactBatch | None,
        key: Key,
        loop: TrainingLoop = train_in_memory,
    ) -> RoutedState:
        """Finds what the method protects, then trains the router.

        Raises:
          ValueError: there is nothing to learn from; errors as of `ClosedForm.train`.
        """
        if self._learns and stream is None:
            raise ValueError(
                "a router learns from facts about other subjects: give it some to train on, or "
                "choose the layers by a rule"
            )
        start = self.editor.train(model, stream, key, loop)
        if not self._learns or stream is None:
            return RoutedState(start)
        given = (self.editor, self.routing, self.training, model, stream)
        return RoutedState(start, train_router(*given, start, key, loop))

    def training_bytes(self, model: EditableModel, stream: FactBatch) -> int:
        """See `StreamEditor.training_bytes`."""
        needed = self.editor.training_bytes(model, stream)
        if not self._learns:
            return needed
        given = (self.editor, self.routing, self.training, model, stream)
        return max(needed, router_bytes(*given))

    def gradient_steps(self, batches: int) -> int:
        """See `StreamEditor.gradient_steps`."""
        updates = self.training.updates if self._learns else 0
        return updates + self.editor.gradient_steps(batches)

    def edit(
        self, model: EditableModel, kernels: Kernels, state: RoutedState, batch: FactBatch, key: Key
    ) -> tuple[Changes, RoutedState]:
        """See `StreamEditor.edit`; the statistics go on counting while editing."""
        target = self.editor.target(model, kernels, state.editor, batch)
        mask, learned = self._chosen(model, state, target, key)
        changes, editor = self.editor.solve(target, state.editor, mask)
        return changes, RoutedState(editor, learned)

    def _chosen(
        self, model: EditableModel, state: RoutedState, target: BatchTarget, key: Key
    ) -> tuple[Array, LearnedRouter | None]:
        """The mask of the layers, and the router after it has seen the batch."""
        candidates, rows = routed_model(self.editor, model), target.rows()
        by_size = self.routing.how == "norm"
        changes = self.editor.solve(target, state.editor)[0] if by_size else {}
        if state.learned is None:
            return self.routing.choose(None, candidates, {}, rows, changes, key), None
        learned = state.learned.after(candidates, rows)
        given = (learned.router, candidates, learned.statistics, rows, changes, key)
        return self.routing.choose(*given), learned
