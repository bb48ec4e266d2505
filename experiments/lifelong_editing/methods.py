"""From the name of a method to its editor and training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from experiments.lifelong_editing.config import Config
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.methods.fine_tuning import FineTune
from modeledit_jax.lifelong.methods.hypernetwork import HypernetworkConfig
from modeledit_jax.lifelong.methods.hypernetwork_editor import HypernetworkEditor, Rule
from modeledit_jax.lifelong.methods.meta_training import MetaTraining
from modeledit_jax.lifelong.methods.router import RouterConfig
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.methods.subset_policy import selected_count
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.objective import Objective
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.lifelong.token_gradients import Tokens, rows_needed
from modeledit_jax.types import Key

RANK, BLOCKS, ROUTER_WIDTH = 32, 2, 64
"""Size of the networks of all learned editors."""

TUNED: dict[str, dict[str, float]] = {
    "ft-l": {"learning_rate": 3e-4},
    "ft-m": {"learning_rate": 3e-4},
    "ultraedit": {"learning_rate": 1e-4},
    "mend": {"edit_lr": 3e-4, "meta_lr": 1e-5},
    "malmen": {"edit_lr": 1e-4, "meta_lr": 1e-5},
    "rledit": {"edit_lr": 2e-4, "meta_lr": 1e-5},
}
"""Step sizes by method; HiEdit and its controls take those of RLEdit. Found by
`experiments.tuning.lifelong_editing` with four trials each; RLEdit's lies between its two best,
which were found with the released objective, and has had more trials (docs/lifelong_editing.md)."""

RLEDIT = Objective(decay=1.0, past=10.0, locality=1.0, reference="original")
"""The released weights (0.95, 1, 0.6, the step before) make an editor that writes boldly and
forgets: past batches and untouched facts are samples of many more that a change also moves."""


@dataclass(frozen=True)
class Method:
    """An editor, and how it is trained; None: it is not."""

    editor: StreamEditor
    training: MetaTraining | None = None


@dataclass(frozen=True)
class Unedited:
    """Changes nothing: the model before all edits, asked the same questions."""

    def init(self, model: EditableModel, key: Key) -> None:
        """Nothing is carried from batch to batch."""

    def edit(
        self, model: EditableModel, kernels: Kernels, state: None, batch: FactBatch, key: Key
    ) -> tuple[Changes, None]:
        """See `StreamEditor.edit`."""
        return {}, None


@dataclass(frozen=True)
class Builder:
    """What methods are built from.

    Attributes:
      config: sizes of the experiment.
      modules: M, how many may be edited.
      streams: whose batches have to find room.
      tuned: step sizes by method.
    """

    config: Config
    modules: int
    streams: tuple[FactBatch, ...]
    tuned: Mapping[str, Mapping[str, float]]

    def finetune(self, name: str, **options: Any) -> Method:
        """FT-L, FT-M."""
        return Method(FineTune(learning_rate=self.tuned[name]["learning_rate"], **options))

    def hyper(
        self, name: str, rule: Rule, *, tokens: Tokens = "answer", routing: Routing | None = None
    ) -> HypernetworkEditor:
        """An editor with a learned network; ``name`` says whose step sizes it takes.

        Rows come in eights, so that worlds differ less and more is compiled once.
        """
        steps = self.tuned[name]
        return HypernetworkEditor(
            rule,
            rows=-(-max(rows_needed(own.edit, tokens) for own in self.streams) // 8) * 8,
            network=HypernetworkConfig(RANK, BLOCKS, steps.get("edit_lr", 0.0)),
            tokens=tokens,
            learning_rate=steps.get("learning_rate", 0.0),
            routing=routing,
        )

    def alone(self, name: str, rule: Rule, *, tokens: Tokens = "answer") -> Method:
        """Trained on the unedited model, one batch at a time: MEND, MALMEN."""
        locality = 1.0 if rule == "mend" else 0.6
        objective = Objective(memory=1, locality=locality)
        return Method(
            self.hyper(name, rule, tokens=tokens), self._training(name, objective, keep=False)
        )

    def along(self, routing: Routing | None = None) -> Method:
        """Trained along trajectories: RLEdit, and with a routing HiEdit and its controls."""
        return Method(
            self.hyper("rledit", "malmen", routing=routing),
            self._training("rledit", replace(RLEDIT, memory=self.config.memory), keep=True),
        )

    def routed(self, how: Any, **options: Any) -> Method:
        """`along`, with changes of some modules only."""
        fraction = self.config.fraction
        fixed = tuple(range(self.modules))[-selected_count(fraction, self.modules) :]
        router = RouterConfig(hidden_size=ROUTER_WIDTH)
        return self.along(
            Routing(how, fraction, fixed if how == "fixed" else (), router, **options)
        )

    def _training(self, name: str, objective: Objective, keep: bool) -> MetaTraining:
        return MetaTraining(
            objective,
            keep_edits=keep,
            growth=GROWTH if keep else 0.0,
            updates=self.config.meta_updates,
            learning_rate=self.tuned[name]["meta_lr"],
            rate_step=RATE_STEP,
            router_learning_rate=ROUTER_STEP,
        )


GROWTH = 0.5
"""Share of the training in which trajectories grow; see `MetaTraining`."""

RATE_STEP = 0.01
"""Of Adam for editing rates (relative) and the logarithms of ridges; see `MetaTraining`."""

ROUTER_STEP = 1e-3
"""Of Adam for HiEdit's router."""

METHODS: dict[str, Callable[[Builder], Method]] = {
    "original": lambda _: Method(Unedited()),
    "ft-l": lambda own: own.finetune("ft-l", loss="last"),
    "ft-m": lambda own: own.finetune("ft-m", loss="teacher"),
    "mend": lambda own: own.alone("mend", "mend", tokens="all"),
    "malmen": lambda own: own.alone("malmen", "malmen"),
    "ultraedit": lambda own: Method(own.hyper("ultraedit", "ultraedit")),
    "rledit": lambda own: own.along(),
    "hiedit": lambda own: own.routed("learned", gradient="reinforce"),
    "hiedit-ste": lambda own: own.routed("learned", gradient="ste"),
    "random-k": lambda own: own.routed("random"),
    "fixed-k": lambda own: own.routed("fixed"),
    "top-norm-k": lambda own: own.routed("norm"),
}
"""All methods. The controls differ from ``hiedit`` in the routing alone, in training as in editing;
with all modules chosen they are ``rledit``. ``fixed-k`` takes the last modules of the network."""


def make_method(
    name: str,
    config: Config,
    model: EditableModel,
    streams: tuple[FactBatch, ...],
    tuned: Mapping[str, Mapping[str, float]] = TUNED,
) -> Method:
    """The method of that name, with room for the batches of all ``streams``."""
    return METHODS[name](Builder(config, len(model.modules), streams, tuned))
