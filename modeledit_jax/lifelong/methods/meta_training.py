"""Learning to edit: the networks of an editor are trained on batches of facts.

RLEdit is trained along trajectories: the weights stay edited, so that an editor meets the networks
its own edits make, and each change is also judged by the batches before it (`trajectory_loss`).
MEND and MALMEN are trained on the unedited network, one batch at a time: the same loop with
``keep_edits=False`` and a memory of one batch.

The gradient is exact and pathwise: rows and weights before a step are constants, so nothing flows
through earlier steps. The released RLEdit makes one Adam step per trajectory, and one trajectory
(``update_every=None``); with Adam that is a step of the learning rate in every parameter whatever
the gradient's size. Here the number of updates is a parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import values_known
from modeledit_jax.lifelong.methods.hypernetwork import (
    Hypernetwork,
    HypernetworkConfig,
    HyperState,
    Trainable,
)
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, check_facts, commit
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.token_gradients import Rows
from modeledit_jax.types import Array, Field, Key


@runtime_checkable
class MetaLearner(Protocol):
    """What is asked of an editor in its training; `HypernetworkEditor` is one."""

    def sized_for(self, model: EditableModel, streams: Sequence[FactBatch]) -> "MetaLearner":
        """See `StreamEditor.sized_for`."""

    @property
    def network(self) -> HypernetworkConfig:
        """Kind of its networks."""

    @property
    def routing(self) -> Routing | None:
        """Which modules are changed; None: all."""

    def init(self, model: EditableModel, key: Key) -> HyperState:
        """Untrained networks."""

    def observe(
        self, model: EditableModel, kernels: Kernels, state: HyperState, batch: FactBatch
    ) -> tuple[Rows, HyperState]:
        """Rows of a batch, and the state whose statistics contain them."""

    def propose(
        self,
        model: EditableModel,
        networks: dict[str, Hypernetwork],
        statistics: dict[str, Any],
        rows: Rows,
    ) -> Changes:
        """The changes of all modules, differentiable with respect to ``networks``."""


@dataclass(frozen=True)
class MetaTraining:
    """How an editor is trained; the defaults are RLEdit's but for the number of updates.

    Attributes:
      objective: what a change is judged by.
      keep_edits: train along trajectories (RLEdit, HiEdit); False: on the unedited network.
      growth: share of the training in which trajectories grow from one batch to the whole stream. A
        fresh editor ruins the network within some batches, and nothing is learnt from a ruin. 0:
        always the whole stream (released).
      updates: of the networks, altogether.
      update_every: steps whose gradients are summed for an update; None: those of a trajectory.
      learning_rate: of Adam for the networks.
      rate_step: of Adam for the modules' learning rates, as a share of their initial value, and for
        the logarithms of the ridges; None: ``learning_rate`` itself for both (released), which is
        ten times the initial rate there.
      router_learning_rate: of Adam for HiEdit's router.
      max_norm: gradients are clipped to this norm.
      clip: the summed gradient after every step (released), or each step's own.
    """

    objective: Objective = field(default_factory=Objective)
    keep_edits: bool = True
    growth: float = 0.0
    updates: int = 100
    update_every: int | None = 1
    learning_rate: float = 1e-5
    rate_step: float | None = None
    router_learning_rate: float = 1e-5
    max_norm: float = 1.0
    clip: Literal["sum", "step"] = "step"

    def steps(self, trajectory: int) -> int:
        """Steps of the whole training, on trajectories of so many batches."""
        return self.updates * (self.update_every or trajectory)


@struct.dataclass
class MetaState:
    """Between two steps of the training."""

    editor: Field  # HyperState
    optimizer: Field
    gradients: Field  # summed since the last update, as editor.learned
    kernels: Field  # of the trajectory
    first: Field  # () int32, place in the stream of the trajectory's first batch
    step: Field  # () int32
    key: Field  # typed PRNG key, of a router's choices


def start_training(
    editor: MetaLearner, training: MetaTraining, model: EditableModel, key: Key
) -> MetaState:
    """The state before the first step: untrained networks, the unedited model."""
    # Copies, for one array may stand for several zeros, and `train_steps` takes the buffers.
    init_key, key = jax.random.split(key)
    fresh = jax.tree.map(partial(jnp.array, copy=True), editor.init(model, init_key))
    return MetaState(
        editor=fresh,
        optimizer=_optimizer(editor, training).init(fresh.learned),
        gradients=jax.tree.map(jnp.zeros_like, fresh.learned),
        kernels=model.kernels(),
        first=jnp.zeros((), jnp.int32),
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


def train_steps(
    editor: MetaLearner,
    training: MetaTraining,
    model: EditableModel,
    state: MetaState,
    stream: FactBatch,
    steps: int,
) -> tuple[MetaState, dict[str, Array]]:
    """Goes ``steps`` batches on along trajectories through ``stream``, again from its start.

    Cutting a training into parts changes nothing.

    Args:
      editor: static.
      training: static.
      model: the network whose facts are edited.
      state: donated.
      stream: facts to train on, ``[S, n, ...]``: one trajectory.
      steps: batches.

    Returns:
      The state, and of every step the ``loss``, the ``gradient_norm`` before clipping, and with a
      drawing router the ``advantage``.

    Raises:
      ValueError: the editor has no room for a batch, or the network no embedding of a token.
    """
    if values_known(stream):
        check_facts(model, stream, "stream")
        editor.sized_for(model, (stream,))  # refuses what does not fit; the editor stays as it is
    return compiled_train_steps(editor, training, model, state, stream, steps)


@partial(jax.jit, static_argnames=("editor", "training", "steps"), donate_argnames="state")
def compiled_train_steps(
    editor: MetaLearner,
    training: MetaTraining,
    model: EditableModel,
    state: MetaState,
    stream: FactBatch,
    steps: int,
) -> tuple[MetaState, dict[str, Array]]:
    """`train_steps` on batches that were checked."""
    length = stream.batches
    step = partial(_step, editor, training, model, stream, length)
    return jax.lax.scan(lambda state, _: step(state), state, length=steps)


def _step(
    editor: MetaLearner,
    training: MetaTraining,
    model: EditableModel,
    stream: FactBatch,
    length: int,
    state: MetaState,
) -> tuple[MetaState, dict[str, Array]]:
    place = state.step % length
    original = model.kernels()
    restart = (place == 0) | (place - state.first >= _horizon(training, state.step, length))
    first = jnp.where(restart, place, state.first)
    kernels = jax.tree.map(lambda w0, w: jnp.where(restart, w0, w), original, state.kernels)
    batch = jax.tree.map(lambda leaf: leaf[place], stream)
    rows, seen = editor.observe(model, kernels, state.editor, batch)

    def loss(learned: Trainable) -> tuple[Array, tuple[Changes, dict[str, Array]]]:
        changes = editor.propose(model, learned.networks, seen.statistics, rows)

        def of(changes: Changes) -> Array:
            return trajectory_loss(
                model, kernels, changes, stream, place, training.objective, first
            )

        if editor.routing is None:
            value = of(changes)
            return value, (changes, {"loss": value})
        key = jax.random.fold_in(state.key, state.step)
        value, changes, metrics = editor.routing.training_loss(
            learned.router, model, seen.statistics, rows, changes, key, of
        )
        return value, (changes, metrics)

    (_, (changes, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(seen.learned)
    metrics["gradient_norm"] = optax.tree.norm(gradients)
    gradients = _accumulate(training, state.gradients, gradients)
    due = (state.step + 1) % (training.update_every or length) == 0
    optimizer = _optimizer(editor, training)
    learned, moments = _update(optimizer, due, seen.learned, state.optimizer, gradients)
    return MetaState(
        HyperState(learned, seen.statistics),
        moments,
        jax.tree.map(lambda g: jnp.where(due, 0.0, g), gradients),
        commit(kernels, changes),
        first,
        state.step + 1,
        state.key,
    ), metrics


def _horizon(training: MetaTraining, step: Array, length: int) -> Array | int:
    """Batches of a trajectory that is under way at a step; whole numbers, for exact resumption."""
    if not training.keep_edits:
        return 1
    growing = round(training.growth * training.steps(length))
    return length if growing == 0 else jnp.minimum(1 + step * length // growing, length)


def _accumulate(training: MetaTraining, total: Any, gradients: Any) -> Any:
    """Adds a step's gradients and clips either the sum, as the released code does, or the step."""
    clip = optax.clip_by_global_norm(training.max_norm)
    if training.clip == "step":
        gradients, _ = clip.update(gradients, optax.EmptyState())
        return optax.tree.add(total, gradients)
    return clip.update(optax.tree.add(total, gradients), optax.EmptyState())[0]


def _update(
    optimizer: optax.GradientTransformation,
    due: Array,
    learned: Trainable,
    moments: Any,
    gradients: Trainable,
) -> tuple[Trainable, Any]:
    """One step of Adam if it is due."""

    def step(learned: Trainable, moments: Any) -> tuple[Trainable, Any]:
        changes, moments = optimizer.update(gradients, moments)
        return optax.apply_updates(learned, changes), moments

    return jax.lax.cond(due, step, lambda *same: same, learned, moments)


def _optimizer(editor: MetaLearner, training: MetaTraining) -> optax.GradientTransformation:
    """Adam, with a learning rate for each kind of what is learned."""
    rate, share = training.learning_rate, training.rate_step
    steps = {
        "blocks": rate,
        "lr": rate if share is None else share * editor.network.edit_lr,
        "lamda": rate if share is None else share,
        "router": training.router_learning_rate,
    }

    def labels(learned: Trainable) -> Trainable:
        networks = {name: Hypernetwork("blocks", "lr", "lamda") for name in learned.networks}
        return Trainable(networks, jax.tree.map(lambda _: "router", learned.router))

    return optax.partition({name: optax.adam(step) for name, step in steps.items()}, labels)
