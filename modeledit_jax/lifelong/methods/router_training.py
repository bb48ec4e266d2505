"""Learning which layers closed-form editing should change, from what its edits did.

The router draws layers for one batch of facts after another, the layers that were drawn change, and
the network stays edited: trajectories through the facts to train on, with all that the editor
remembers. The reward of a choice ω is HiEdit's ``r(ω) − r(1)``, how much better it does than all
layers would have in the same place, by `objective.trajectory_loss`. Nothing is differentiated but
the log-probability of the choice, so that a step costs two solves and what two changes are judged
by; values of the unedited network are found once, before the first step.

Fewer layers than all do nearly always better or nearly always worse, whatever the choice; the
running mean of the reward is therefore subtracted from it, which leaves the expected gradient as it
is and takes most of its variance.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.methods.closed_form import ClosedForm, ClosedFormState
from modeledit_jax.lifelong.methods.hypernetwork import (
    group_modules,
    init_statistics,
    update_statistics,
)
from modeledit_jax.lifelong.methods.router import Router
from modeledit_jax.lifelong.methods.routing import Routing
from modeledit_jax.lifelong.methods.subset_policy import SubsetPolicy, dense_mask
from modeledit_jax.lifelong.model import EditableModel, check_facts, commit
from modeledit_jax.lifelong.objective import Objective, trajectory_loss
from modeledit_jax.lifelong.stream import CHUNK, TrainingLoop
from modeledit_jax.lifelong.token_gradients import Rows
from modeledit_jax.memory import live_bytes, tree_bytes
from modeledit_jax.types import Array, Field, Key

VALUES_AT_ONCE = 4
"""Batches whose values are found in one compiled call."""


@dataclass(frozen=True)
class RouterTraining:
    """How the router learns.

    Attributes:
      objective: what a change is judged by.
      updates: of the router, one for every batch; trajectories begin anew where the facts end.
      learning_rate: of Adam.
      smoothing: of the mean that is subtracted from the reward, between 0 and 1; 0: the last
        reward.
    """

    objective: Objective = field(default_factory=Objective)
    updates: int = 300
    learning_rate: float = 1e-3
    smoothing: float = 0.9

    def __post_init__(self) -> None:
        for name in ("updates", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing={self.smoothing}: give at least 0 and less than 1")


@struct.dataclass
class LearnedRouter:
    """What is learned, and what is counted from batch to batch."""

    router: Field  # Router
    statistics: Field  # {group: RunningMoments} of rows (u, v)

    def after(self, candidates: EditableModel, rows: Rows) -> "LearnedRouter":
        """The same, with a batch's rows of the modules to choose from counted."""
        groups = group_modules(candidates.shapes)
        seen = update_statistics(self.statistics, groups, rows.keys, rows.values, rows.mask)
        return LearnedRouter(self.router, seen)


@struct.dataclass
class RouterTrainingState:
    """Between two steps of the training."""

    learned: Field  # LearnedRouter
    moments: Field  # of Adam
    level: Field  # () mean reward so far
    kernels: Field  # of the trajectory
    editor: Field  # ClosedFormState of the trajectory
    step: Field  # () int32
    key: Field  # typed PRNG key, of the draws


def routed_model(editor: ClosedForm, model: EditableModel) -> EditableModel:
    """The model with the modules alone that the editor may change, among which is chosen."""
    return replace(model, modules=tuple(editor.edited(model).values()))


def init_learned(
    editor: ClosedForm, routing: Routing, model: EditableModel, key: Key
) -> LearnedRouter | None:
    """An untrained router, if there is to be one."""
    candidates = routed_model(editor, model)
    router = routing.init(candidates, key)
    if router is None:
        return None
    return LearnedRouter(router, init_statistics(candidates.shapes))


def train_router(
    editor: ClosedForm,
    routing: Routing,
    training: RouterTraining,
    model: EditableModel,
    stream: FactBatch,
    start: ClosedFormState,
    key: Key,
    loop: TrainingLoop,
) -> LearnedRouter:
    """A router that has learned along trajectories through a stream of facts.

    Args:
      editor: how the layers change; facts are edited in under their prompts alone.
      routing: how they are chosen.
      training: see there.
      model: the unedited network.
      stream: facts to learn from ``[S, n, ...]``.
      start: of the editor before its first batch.
      key: of the first weights and of the draws.
      loop: runs the steps.

    Raises:
      ValueError: the network has no embedding of a token.
    """
    check_facts(model, stream, "stream")
    editor, stream = _alone(editor), replace(stream, contexts=None, values=None)
    if editor.finds_ahead is not None:
        stream = replace(stream, values=_values_ahead(editor, model, stream, loop))

    def advance(state: RouterTrainingState, done: int, steps: int) -> tuple[Any, dict[str, Array]]:
        return _steps(editor, routing, training, model, state, stream, start, steps)

    first = _start(editor, routing, training, model, start, key)
    names = ("loss", "advantage", "layers")
    return loop(first, advance, training.updates, metrics=names).learned


def router_bytes(
    editor: ClosedForm,
    routing: Routing,
    training: RouterTraining,
    model: EditableModel,
    stream: FactBatch,
) -> int:
    """`StreamEditor.training_bytes` of `train_router`; arguments as there.

    A writer of values, if there is one, is taken for a search.
    """
    editor, stream = _alone(editor), replace(stream, contexts=None, values=None)
    if editor.finds_ahead is not None:
        width = model.config.width
        values = jax.ShapeDtypeStruct((*stream.edit.tokens.shape[:2], width), model.dtype)
        stream = replace(stream, values=values)
    start = ClosedFormState({
        name: jax.ShapeDtypeStruct((d_in, d_in), model.dtype)
        for name, (d_in, _) in routed_model(editor, model).shapes.items()
    })  # fmt: skip
    begin = partial(_start, editor, routing, training)
    state = jax.eval_shape(begin, model, start, jax.eval_shape(jax.random.key, 0))

    def run(model: EditableModel, state: Any, stream: FactBatch, start: ClosedFormState) -> Any:
        steps = min(CHUNK, training.updates)
        return _steps(editor, routing, training, model, state, stream, start, steps)

    return tree_bytes(state) + live_bytes(run, model, state, stream, start)


def _alone(editor: ClosedForm) -> ClosedForm:
    """Facts to train on come without contexts."""
    return replace(editor, contexts=0)


def _values_ahead(
    editor: ClosedForm, model: EditableModel, stream: FactBatch, loop: TrainingLoop
) -> Float[Array, "S n width"]:
    def advance(values: Array, done: int, steps: int) -> tuple[Array, dict]:
        part = jax.tree.map(lambda leaf: leaf[done : done + steps], stream)
        return values.at[done : done + steps].set(_found(editor, model, part)), {}

    shape = jax.eval_shape(partial(_found, editor), model, stream)
    nothing = jnp.zeros(shape.shape, shape.dtype)
    return loop(nothing, advance, stream.batches, chunk=VALUES_AT_ONCE)


@partial(jax.jit, static_argnames="editor")
def _found(
    editor: ClosedForm, model: EditableModel, stream: FactBatch
) -> Float[Array, "S n width"]:
    return jax.lax.map(partial(editor.find_ahead, model), stream)


def _start(
    editor: ClosedForm,
    routing: Routing,
    training: RouterTraining,
    model: EditableModel,
    start: ClosedFormState,
    key: Key,
) -> RouterTrainingState:
    router_key, key = jax.random.split(key)
    learned = init_learned(editor, routing, model, router_key)
    assert learned is not None
    # Copies, for one array may stand for several zeros, and the steps take the buffers.
    learned, own = jax.tree.map(partial(jnp.array, copy=True), (learned, start))
    return RouterTrainingState(
        learned=learned,
        moments=optax.adam(training.learning_rate).init(learned.router),
        level=jnp.zeros(()),
        kernels=model.kernels(),
        editor=own,
        step=jnp.zeros((), jnp.int32),
        key=key,
    )


@partial(
    jax.jit,
    static_argnames=("editor", "routing", "training", "steps"),
    donate_argnames="state",
)
def _steps(
    editor: ClosedForm,
    routing: Routing,
    training: RouterTraining,
    model: EditableModel,
    state: RouterTrainingState,
    stream: FactBatch,
    start: ClosedFormState,
    steps: int,
) -> tuple[RouterTrainingState, dict[str, Array]]:
    step = partial(_step, editor, routing, training, model, stream, start)
    return jax.lax.scan(lambda state, _: step(state), state, length=steps)


def _step(
    editor: ClosedForm,
    routing: Routing,
    training: RouterTraining,
    model: EditableModel,
    stream: FactBatch,
    start: ClosedFormState,
    state: RouterTrainingState,
) -> tuple[RouterTrainingState, dict[str, Array]]:
    place = state.step % stream.batches
    fresh, old = (model.kernels(), start), (state.kernels, state.editor)
    kernels, own = jax.tree.map(lambda new, kept: jnp.where(place == 0, new, kept), fresh, old)
    batch = jax.tree.map(lambda leaf: leaf[place], stream)
    target = editor.target(model, kernels, own, batch)
    rows, candidates = target.rows(), routed_model(editor, model)
    learned = state.learned.after(candidates, rows)

    def policy(router: Router) -> SubsetPolicy:
        return routing.policy(router, candidates, learned.statistics, rows)

    action = policy(learned.router).sample(jax.random.fold_in(state.key, state.step))
    judged = partial(
        trajectory_loss, model, kernels, stream=stream, step=place, objective=training.objective
    )
    every, _ = editor.solve(target, own, dense_mask(len(target.modules)))
    changes, own = editor.solve(target, own, action.mask())
    loss = judged(changes)
    advantage = judged(every) - loss  # r(ω) − r(1)

    def surrogate(router: Router) -> Array:
        return routing.surrogate(policy(router), action, advantage - state.level)

    slope = jax.grad(surrogate)(learned.router)
    updates, moments = optax.adam(training.learning_rate).update(slope, state.moments)
    smoothing = jnp.where(state.step == 0, 0.0, training.smoothing)
    return RouterTrainingState(
        learned=replace(learned, router=optax.apply_updates(learned.router, updates)),
        moments=moments,
        level=smoothing * state.level + (1 - smoothing) * advantage,
        kernels=commit(kernels, changes),
        editor=own,
        step=state.step + 1,
        key=state.key,
    ), {"loss": loss, "advantage": advantage, "layers": action.count}
