"""What a layer should say about a subject: the value that makes the model give the new answer.

A vector δ is added to what the MLP of one layer adds to the residual stream, at the last token of
the subject, and optimized until the new answer is likely. Without a norm after the MLP that is the
same as adding it to the residual stream after the layer. Source: ROME (arXiv 2202.05262, equation
4), MEMIT (2210.07229, section 4.2), as released (``memit/compute_z.py``), without its sampled
contexts: the prompt stands alone.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.language.hooked_linear import Hook, linear
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.types import Array, Field, Params


@dataclass(frozen=True)
class ValueSearch:
    """How δ is optimized: Adam, all facts of a batch at once, each with an end of its own.

    Attributes:
      steps: evaluations of the loss at most; one update fewer.
      learning_rate: of Adam.
      clamp: ``‖δ‖`` is at most this multiple of the norm of what it is added to.
      added_to: what that is: the residual stream after the layer (MEMIT), or the output of its MLP
        (ROME).
      decay: weight of ``‖δ‖`` over the square of that norm.
      essence: weight of ``KL(now ‖ before)`` of the token after the subject.
      floor: a fact whose loss is below it is done.
    """

    steps: int = 25
    learning_rate: float = 0.5
    clamp: float = 0.75
    added_to: Literal["stream", "output"] = "stream"
    decay: float = 0.5
    essence: float = 0.0625
    floor: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: give at least 1")
        for name in ("learning_rate", "clamp"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}: give a positive number")


@struct.dataclass
class EditValues:
    """Of ``n`` facts; rows that do not count are zero."""

    delta: Field  # [n, width], to be added
    loss: Field  # [n], when the search of a fact ended
    updates: Field  # [n] int32, of δ


@struct.dataclass
class _Prompts:
    """The rows of a batch where they are read, and the network below the layer done."""

    tokens: Field  # TokenBatch [n, l]
    hidden: Field  # [n, l, width] before the layer; None: the layer is the first
    subject: Field  # [n] place of the subject's last token
    scored: Field  # [n, p + 1] places: of the answer, and of the subject at last
    labels: Field  # [n, p] the answer's tokens; IGNORED beyond it


def edit_values(
    model: EditableModel,
    kernels: Kernels,
    batch: TokenBatch,
    subject: Int[Array, " n"],
    real: Bool[Array, " n"],
    layer: int,
    search: ValueSearch,
    answer: int | None = None,
) -> EditValues:
    """Optimizes δ of every fact of a batch.

    Args:
      model: the network.
      kernels: as they are now.
      batch: prompts and new answers.
      subject: place of the subject's last token.
      real: rows that count.
      layer: whose MLP's output δ is added to; static.
      search: see there.
      answer: tokens of the longest answer, static; None: as many as there are positions.
    """
    params = model.with_kernels(kernels)
    prompts = _prompts(model, kernels, batch, subject, layer, answer)
    nothing = jnp.zeros((len(subject), model.config.width), model.dtype)
    scores, sizes = _log_probabilities(model, params, prompts, layer, nothing)
    before = jax.lax.stop_gradient(scores[:, -1])
    size = sizes[search.added_to]

    def loss(delta: Array) -> tuple[Array, Array]:
        scores, _ = _log_probabilities(model, params, prompts, layer, delta)
        now = scores[:, -1]
        each = (
            _negative_log_likelihood(scores[:, :-1], prompts.labels)
            + search.essence * (jnp.exp(now) * (now - before)).sum(-1)
            + search.decay * _norm(delta) / jnp.maximum(size, 1e-6) ** 2
        )
        return each.sum(), each  # a row's loss depends on its own δ alone

    return _minimize(loss, nothing, real, search.clamp * size, search)


def _minimize(
    loss: object, start: Array, real: Array, bound: Array, search: ValueSearch
) -> EditValues:
    """Adam on every row until it is done; the order of released code: judge, step, clamp."""
    adam = optax.adam(search.learning_rate)
    gradient = jax.value_and_grad(loss, has_aux=True)  # type: ignore[arg-type]

    def unfinished(carry: tuple) -> Array:
        return (carry[0] < search.steps) & ~carry[-1].all()

    def step(carry: tuple) -> tuple:
        count, delta, moments, values, done = carry
        (_, each), slope = gradient(delta)
        last = count == search.steps - 1
        values = EditValues(
            delta,
            jnp.where(done, values.loss, each),
            values.updates,
        )
        done = done | (each < search.floor) | last
        change, moments = adam.update(slope, moments)
        moved = delta + change
        moved = moved * jnp.minimum(1.0, bound / jnp.maximum(_norm(moved), 1e-12))[:, None]
        delta = jnp.where(done[:, None], delta, moved)
        updates = values.updates + ~done
        return count + 1, delta, moments, EditValues(delta, values.loss, updates), done

    rows = len(start)
    empty = EditValues(start, jnp.zeros(rows, start.dtype), jnp.zeros(rows, jnp.int32))
    first = (jnp.zeros((), jnp.int32), start, adam.init(start), empty, ~real)
    return jax.lax.while_loop(unfinished, step, first)[3]


def _prompts(
    model: EditableModel,
    kernels: Kernels,
    batch: TokenBatch,
    subject: Array,
    layer: int,
    answer: int | None,
) -> _Prompts:
    """Runs the layers below ``layer`` once, and finds the places whose predictions count."""
    hidden = batch.hidden if layer == model.first_layer else None
    if layer and hidden is None:
        below = f"layers/{layer - 1}"
        hidden = model.forward(kernels, batch, capture=(below,))[1][below]
    room = min(answer or batch.tokens.shape[1], batch.tokens.shape[1])
    places = jnp.argsort(~batch.scored, axis=1, stable=True)[:, :room]
    labels = jnp.take_along_axis(batch.labels, places, axis=1)
    subject = jnp.maximum(subject, 0)
    return _Prompts(batch, hidden, subject, jnp.c_[places, subject], labels)


def _log_probabilities(
    model: EditableModel, params: Params, prompts: _Prompts, layer: int, delta: Array
) -> tuple[Float[Array, "n p v"], dict[str, Float[Array, " n"]]]:
    """Of the next token at the places that count, with δ at the subjects; norms at the subjects."""
    down, stream = f"layers/{layer}/mlp/down", f"layers/{layer}"
    batch, rows = prompts.tokens, jnp.arange(len(delta))
    tap = jnp.zeros((*batch.tokens.shape, delta.shape[-1]), delta.dtype)
    tap = tap.at[rows, prompts.subject].set(delta)
    logits, seen = apply(
        model.config,
        params,
        batch.tokens,
        batch.attention,
        {down: Hook(tap=tap)},
        (down, stream),
        start=None if prompts.hidden is None else (layer, prompts.hidden),
        positions=prompts.scored,
    )
    leaves = params["layers"][str(layer)]["mlp"]["down"]
    output = linear(leaves["kernel"], seen[down][rows, prompts.subject], leaves.get("bias"))
    sizes = {"stream": seen[stream][rows, prompts.subject], "output": output}
    norms = {name: _norm(x.astype(jnp.float32)) for name, x in sizes.items()}
    return jax.nn.log_softmax(logits.astype(jnp.float32)), jax.lax.stop_gradient(norms)


def _negative_log_likelihood(
    scores: Float[Array, "n p v"], labels: Int[Array, "n p"]
) -> Float[Array, " n"]:
    """Mean over each row's labels; 0 where there is none."""
    counted = labels != IGNORED
    picked = jnp.take_along_axis(scores, jnp.where(counted, labels, 0)[..., None], axis=-1)[..., 0]
    return -jnp.where(counted, picked, 0).sum(1) / jnp.maximum(counted.sum(1), 1)


def _norm(rows: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Norms whose gradient at zero is zero."""
    squares = jnp.square(rows).sum(-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
