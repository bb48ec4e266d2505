"""Values at once: a network that writes what a search by gradient would find.

Searching the value of a fact takes some two dozen passes through the layers above
(`edit_values.ValueSearch`), which is nearly all that a closed-form edit costs. The writer sees what
the value is added to, at the subject, and the embedding of the new answer, and has learned on facts
about other subjects to write δ at once; a few steps of the search may follow. It is trained on what
the search minimizes, through the unedited network.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.contexts import bare_rows
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.lifelong.edit_values import ValueProblem, ValueSearch
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.parts_of_rows import by_parts
from modeledit_jax.lifelong.stream import TrainingLoop
from modeledit_jax.lifelong.subjects import counted, rows_before
from modeledit_jax.memory import live_bytes, tree_bytes
from modeledit_jax.types import Array, Field, Key

CHUNK = 10
"""Updates of one compiled call."""


@dataclass(frozen=True)
class WriterTraining:
    """How the writer learns: AdamW over batches of facts drawn anew, along a cosine.

    Attributes:
      updates: of its weights.
      learning_rate: at the first update.
      decay: of the weights.
      hidden: units of its hidden layer.
      bound: norm of δ at most, as a multiple of that of what it is added to. The search, which may
        go up to `ValueSearch.clamp`, ends well below; the writer goes as far as it may.
    """

    updates: int = 200
    learning_rate: float = 1e-3
    decay: float = 0.01
    hidden: int = 512
    bound: float = 0.5

    def __post_init__(self) -> None:
        for name in ("updates", "learning_rate", "hidden", "bound"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")
        if self.decay < 0:
            raise ValueError(f"decay={self.decay}: give a number that is not negative")


@struct.dataclass
class ValueWriter:
    """Weights; ``w`` is the width of the language model, ``h`` that of the hidden layer."""

    inside: Field  # [2w, h]
    bias: Field  # [h]
    outside: Field  # [h, w]
    direct: Field  # [w, w] from the answer
    offset: Field  # [w]
    bound: float = struct.field(pytree_node=False)

    @classmethod
    def create(cls, width: int, hidden: int, bound: float, key: Key) -> "ValueWriter":
        """A writer that writes zero."""
        inside = jax.random.normal(key, (2 * width, hidden)) / (2 * width) ** 0.5
        return cls(
            inside=inside,
            bias=jnp.zeros(hidden),
            outside=jnp.zeros((hidden, width)),
            direct=jnp.zeros((width, width)),
            offset=jnp.zeros(width),
            bound=bound,
        )

    def __call__(self, problem: ValueProblem) -> Float[Array, "n w"]:
        """δ of every fact, in units of what it is added to, and within its bound."""
        subject, answer = _unit(problem.prompts.reached), _unit(problem.answers)
        seen = jnp.concatenate([subject, answer], axis=-1)
        hidden = jax.nn.gelu(seen @ self.inside + self.bias)
        written = hidden @ self.outside + answer @ self.direct + self.offset
        delta = written * (problem.prompts.size / written.shape[-1] ** 0.5)[:, None]
        squares = jnp.square(delta).sum(-1)
        norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))  # its slope at zero is zero
        within = jnp.minimum(1.0, self.bound * problem.prompts.size / jnp.maximum(norm, 1e-12))
        return (delta * within[:, None]).astype(problem.prompts.reached.dtype)


@struct.dataclass
class WriterState:
    """Of the training, between two updates."""

    writer: Field  # ValueWriter
    moments: Field  # of the optimizer


def train_writer(
    model: EditableModel,
    stream: FactBatch,
    layer: int,
    search: ValueSearch,
    room: tuple[int | None, int | None],
    training: WriterTraining,
    key: Key,
    loop: TrainingLoop,
) -> ValueWriter:
    """A writer that has learned on the prompts of facts alone.

    Args:
      model: the unedited network.
      stream: facts ``[S, n, ...]`` to learn from.
      layer: whose MLP's output δ is added to.
      search: whose loss it learns to make small.
      room: ``answer`` and ``window`` of `edit_values`.
      training: see there.
      key: of its first weights and of the batches.
      loop: runs the updates.
    """
    weights_key, draws_key = jax.random.split(key)
    start = _start(model, training, weights_key)

    def advance(state: WriterState, done: int, steps: int) -> tuple[WriterState, dict]:
        keys = jax.vmap(partial(jax.random.fold_in, draws_key))(done + jnp.arange(steps))
        places = jax.vmap(lambda key: jax.random.randint(key, (), 0, stream.batches))(keys)
        state, loss = _updated(model, state, stream, places, layer, search, room, training)
        return state, {"loss": loss}

    return loop(start, advance, training.updates, metrics=("loss",), chunk=CHUNK).writer


def writer_bytes(
    model: EditableModel,
    stream: FactBatch,
    layer: int,
    search: ValueSearch,
    room: tuple[int | None, int | None],
    training: WriterTraining,
) -> int:
    """`StreamEditor.training_bytes` of `train_writer`; arguments as there."""
    start = partial(_start, model, training)
    state = jax.eval_shape(start, jax.eval_shape(jax.random.key, 0))
    places = jax.ShapeDtypeStruct((min(CHUNK, training.updates),), jnp.int32)

    def run(model: EditableModel, state: WriterState, stream: FactBatch, places: Array) -> Any:
        return _updated(model, state, stream, places, layer, search, room, training)

    return tree_bytes(state) + live_bytes(run, model, state, stream, places)


def _start(model: EditableModel, training: WriterTraining, key: Key) -> WriterState:
    writer = ValueWriter.create(model.config.width, training.hidden, training.bound, key)
    return WriterState(writer, _optimizer(training).init(writer))


def _optimizer(training: WriterTraining) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(training.learning_rate, training.updates)
    return optax.adamw(rate, weight_decay=training.decay)


@partial(jax.jit, static_argnames=("layer", "search", "room", "training"), donate_argnames="state")
def _updated(
    model: EditableModel,
    state: WriterState,
    stream: FactBatch,
    places: Int[Array, " k"],
    layer: int,
    search: ValueSearch,
    room: tuple[int | None, int | None],
    training: WriterTraining,
) -> tuple[WriterState, Float[Array, " k"]]:
    """The writer after one update by each of some batches, and the mean loss before each."""
    kernels, optimizer = model.kernels(), _optimizer(training)

    def update(state: WriterState, place: Array) -> tuple[WriterState, Array]:
        batch = jax.tree.map(lambda leaf: leaf[place], stream)
        real = counted(batch)

        def loss(writer: ValueWriter) -> Array:
            def of_rows(rows: tuple[TokenBatch, Array]) -> Array:
                facts = bare_rows(*rows)
                below = (layer, rows_before(model, model.params, facts, layer))
                problem = ValueProblem.of(model, kernels, facts, layer, search, *room, below=below)
                return problem.losses(writer(problem))[0]

            each = by_parts(of_rows, (batch.edit, batch.subject_last), model.rows_at_once)
            return jnp.where(real, each, 0).sum() / jnp.maximum(real.sum(), 1)

        value, slope = jax.value_and_grad(loss)(state.writer)
        updates, moments = optimizer.update(slope, state.moments, state.writer)
        return WriterState(optax.apply_updates(state.writer, updates), moments), value

    return jax.lax.scan(update, state, places)


def _unit(rows: Float[Array, "n w"]) -> Float[Array, "n w"]:
    """Rows whose entries have a mean square of one, in float32 at least."""
    squares = jnp.square(rows).mean(-1, keepdims=True)
    return rows * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))
