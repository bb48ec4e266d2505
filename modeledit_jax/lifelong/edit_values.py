"""What a layer should say about a subject: the value that makes the model give the new answer.

A vector δ is added to what the MLP of one layer adds to the residual stream, at the last token of
the subject, and optimized until the new answer is likely. Without a norm after the MLP that is the
same as adding it to the residual stream after the layer. Source: ROME (arXiv 2202.05262, equation
4), MEMIT (2210.07229, section 4.2), as released (``memit/compute_z.py``).

The answer has to come out of the prompt alone and of the prompt after every context, as likely on
average, and the subject alone has to stay what it was (`data.facts.contexts`).
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.contexts import ContextBatch
from modeledit_jax.data.facts.tokens import IGNORED
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
      essence: weight of ``KL(now ‖ before)`` of the token after the subject, in the last row.
      floor: a fact whose loss is below it is done.
      said: a fact is done that many steps after the new answer is what the network says in every
        row (ENCORE, EMNLP 2025: 2 or 4); None: only the loss ends it.
    """

    steps: int = 25
    learning_rate: float = 0.5
    clamp: float = 0.75
    added_to: Literal["stream", "output"] = "stream"
    decay: float = 0.5
    essence: float = 0.0625
    floor: float = 0.05
    said: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}: give at least 1")
        if self.said is not None and self.said < 0:
            raise ValueError(f"said={self.said}: give a number that is not negative, or None")
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

    rows: Field  # TokenBatch [n r, l]
    hidden: Field  # [n r, l, width] before the layer; None: the layer is the first
    subject: Field  # [n r] place of the subject's last token
    scored: Field  # [n r, p] places: of the answer; the last of a last row is the subject
    labels: Field  # [n r, p] the answer's tokens; IGNORED beyond it


def edit_values(
    model: EditableModel,
    kernels: Kernels,
    facts: ContextBatch,
    real: Bool[Array, " n"],
    layer: int,
    search: ValueSearch,
    answer: int | None = None,
    below: tuple[int, Float[Array, "n r l width"]] | None = None,
) -> EditValues:
    """Optimizes δ of every fact of a batch.

    Args:
      model: the network.
      kernels: as they are now.
      facts: prompts and new answers ``[n, r, l]``.
      real: facts that count.
      layer: whose MLP's output δ is added to; static.
      search: see there.
      answer: tokens of the longest answer, static; None: as many as there are positions.
      below: a layer up to ``layer``, static, and the residual stream before it, if that is known.
    """
    count, rows = facts.subject.shape
    params = model.with_kernels(kernels)
    prompts = _prompts(model, params, facts, layer, answer, below)
    nothing = jnp.zeros((count, model.config.width), model.dtype)
    scores, sizes = _log_probabilities(model, params, prompts, layer, nothing)
    before = jax.lax.stop_gradient(scores.reshape(count, rows, *scores.shape[1:])[:, -1, -1])
    size = sizes[search.added_to].reshape(count, rows)[:, 0]

    def loss(delta: Array) -> tuple[Array, tuple[Array, Array]]:
        scores, _ = _log_probabilities(model, params, prompts, layer, delta)
        now = scores.reshape(count, rows, *scores.shape[1:])[:, -1, -1]
        each = (
            _negative_log_likelihood(scores, prompts.labels, count)
            + search.essence * (jnp.exp(now) * (now - before)).sum(-1)
            + search.decay * _norm(delta) / jnp.maximum(size, 1e-6) ** 2
        )
        # A fact's loss depends on its own δ alone.
        return each.sum(), (each, _is_said(scores, prompts.labels, count))

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
        count, delta, moments, values, since, done = carry
        (_, (each, said)), slope = gradient(delta)
        since = since + said  # evaluations in which it was said
        last = count == search.steps - 1
        values = EditValues(
            delta,
            jnp.where(done, values.loss, each),
            values.updates,
        )
        enough = False if search.said is None else since > search.said
        done = done | (each < search.floor) | enough | last
        change, moments = adam.update(slope, moments)
        moved = delta + change
        moved = moved * jnp.minimum(1.0, bound / jnp.maximum(_norm(moved), 1e-12))[:, None]
        delta = jnp.where(done[:, None], delta, moved)
        updates = values.updates + ~done
        return count + 1, delta, moments, EditValues(delta, values.loss, updates), since, done

    rows = len(start)
    none = jnp.zeros(rows, jnp.int32)
    empty = EditValues(start, jnp.zeros(rows, start.dtype), none)
    first = (jnp.zeros((), jnp.int32), start, adam.init(start), empty, none, ~real)
    return jax.lax.while_loop(unfinished, step, first)[3]


def _prompts(
    model: EditableModel,
    params: Params,
    facts: ContextBatch,
    layer: int,
    answer: int | None,
    below: tuple[int, Array] | None,
) -> _Prompts:
    """Runs the layers below ``layer`` once, and finds the places whose predictions count."""
    count = facts.subject.shape[1]
    batch, subject = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (facts.rows, jnp.maximum(facts.subject, 0))
    )
    start = below and (below[0], below[1].reshape(*batch.tokens.shape, -1))
    if start is not None and start[0] == layer:
        hidden = start[1]
    elif layer:
        name = f"layers/{layer - 1}"
        seen = apply(
            model.config, params, batch.tokens, batch.attention, capture=(name,), start=start
        )
        hidden = seen[1][name]
    else:
        hidden = None
    room = min(answer or batch.tokens.shape[1], batch.tokens.shape[1])
    places = jnp.argsort(~batch.scored, axis=1, stable=True)[:, :room]
    labels = jnp.take_along_axis(batch.labels, places, axis=1)
    if count == 1:  # the one row is also the last
        places = jnp.c_[places, subject]
        labels = jnp.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
    else:
        last = jnp.arange(len(places)) % count == count - 1
        places = jnp.where(last[:, None], subject[:, None], places)
    return _Prompts(batch, hidden, subject, places, labels)


def _log_probabilities(
    model: EditableModel, params: Params, prompts: _Prompts, layer: int, delta: Array
) -> tuple[Float[Array, "rows p v"], dict[str, Float[Array, " rows"]]]:
    """Of the next token at the places that count, with δ at the subjects; norms at the subjects."""
    down, stream = f"layers/{layer}/mlp/down", f"layers/{layer}"
    batch, rows = prompts.rows, jnp.arange(len(prompts.subject))
    tap = jnp.zeros((*batch.tokens.shape, delta.shape[-1]), delta.dtype)
    tap = tap.at[rows, prompts.subject].set(jnp.repeat(delta, len(rows) // len(delta), axis=0))
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
    norms = {name: _norm(x.astype(delta.dtype)) for name, x in sizes.items()}
    return jax.nn.log_softmax(logits), jax.lax.stop_gradient(norms)


def _is_said(
    scores: Float[Array, "rows p v"], labels: Int[Array, "rows p"], facts: int
) -> Bool[Array, " n"]:
    """Whether every label of all rows of a fact is the most probable token."""
    right = (jnp.argmax(scores, axis=-1) == labels) | (labels == IGNORED)
    return right.reshape(facts, -1).all(-1)


def _negative_log_likelihood(
    scores: Float[Array, "rows p v"], labels: Int[Array, "rows p"], count: int
) -> Float[Array, " n"]:
    """Of so many facts: the mean over a row's labels, and over the rows of a fact that have some;
    0 where there is none."""
    counted = labels != IGNORED
    picked = jnp.take_along_axis(scores, jnp.where(counted, labels, 0)[..., None], axis=-1)[..., 0]
    each = -jnp.where(counted, picked, 0).sum(1) / jnp.maximum(counted.sum(1), 1)
    labeled = counted.any(1).reshape(count, -1)
    return each.reshape(count, -1).sum(1) / jnp.maximum(labeled.sum(1), 1)


def _norm(rows: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Norms whose gradient at zero is zero."""
    squares = jnp.square(rows).sum(-1)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
