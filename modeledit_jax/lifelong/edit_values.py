"""What a layer should say about a subject: the value that makes the model give the new answer.

A vector δ is added to what the MLP of one layer adds to the residual stream, at the last token of
the subject, and optimized until the new answer is likely. Without a norm after the MLP that is the
same as adding it to the residual stream after the layer. Source: ROME (arXiv 2202.05262, equation
4), MEMIT (2210.07229, section 4.2), as released (``memit/compute_z.py``).

The answer has to come out of the prompt alone and of the prompt after every context, as likely on
average, and the subject alone has to stay what it was (`data.facts.contexts`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.contexts import ContextBatch
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.language.hooked_linear import Hook, linear
from modeledit_jax.language.model import apply, embed
from modeledit_jax.language.parameters import layer_parameters
from modeledit_jax.language.past import captures, past_of
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.parts_of_rows import by_parts
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
    """The rows of a batch from the subject's last token on, with all that δ does not reach."""

    tokens: Field  # [n r, w] from the subject's last token on
    attention: Field  # [n r, w]
    hidden: Field  # [n r, w, width] before the layer
    past: Field  # Past: the positions before the subject's last token
    scored: Field  # [n r, p] places among the w: of the answer; the last of a last row is 0
    labels: Field  # [n r, p] the answer's tokens; IGNORED beyond it
    reached: Field  # [n, width] what δ is added to, of a fact's first row
    size: Field  # [n] norm of that


@struct.dataclass
class ValueProblem:
    """The values that are wanted of ``n`` facts, and what each is worth."""

    model: Field  # EditableModel
    params: Field  # of the network as it is now
    prompts: Field  # _Prompts
    before: Field  # [n, v] log probabilities of the token after the subject, in the last row
    layer: int = struct.field(pytree_node=False)
    search: ValueSearch = struct.field(pytree_node=False)

    @classmethod
    def of(
        cls,
        model: EditableModel,
        kernels: Kernels,
        facts: ContextBatch,
        layer: int,
        search: ValueSearch,
        answer: int | None = None,
        window: int | None = None,
        below: tuple[int, Float[Array, "n r l width"]] | None = None,
    ) -> "ValueProblem":
        """Arguments as of `edit_values`."""
        params = model.with_kernels(kernels)
        prompts = _prompts(model, params, facts, layer, search.added_to, (answer, window), below)
        nothing = jnp.zeros_like(prompts.reached)
        # By the pass of the search, not by that over whole rows: where only rounding tells two
        # passes apart, Adam would make a step of it.
        before = _last_rows(
            _log_probabilities(model, params, prompts, layer, nothing), len(nothing)
        )
        return cls(model, params, prompts, before, layer, search)

    @property
    def bound(self) -> Float[Array, " n"]:
        """The norm that δ may have."""
        return self.search.clamp * self.prompts.size

    @property
    def answers(self) -> Float[Array, "n width"]:
        """Mean embedding of the tokens of each answer."""
        count = len(self.prompts.size)
        labels = self.prompts.labels.reshape(count, -1, self.prompts.labels.shape[-1])[:, 0]
        counted = (labels != IGNORED)[..., None]
        embedded = self.params["tokens"]["embedding"][jnp.where(labels == IGNORED, 0, labels)]
        total = jnp.where(counted, embedded, 0).sum(1) / jnp.maximum(counted.sum(1), 1)
        return total.astype(self.prompts.reached.dtype)

    def losses(
        self, delta: Float[Array, "n width"]
    ) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
        """What the search minimizes, of every fact, and whether its answer is what is said."""
        count, search = len(delta), self.search
        scores = _log_probabilities(self.model, self.params, self.prompts, self.layer, delta)
        now = _last_rows(scores, count)
        each = (
            _negative_log_likelihood(scores, self.prompts.labels, count)
            + search.essence * (jnp.exp(now) * (now - self.before)).sum(-1)
            + search.decay * _norm(delta) / jnp.maximum(self.prompts.size, 1e-6) ** 2
        )
        return each, _is_said(scores, self.prompts.labels, count)


def edit_values(
    model: EditableModel,
    kernels: Kernels,
    facts: ContextBatch,
    real: Bool[Array, " n"],
    layer: int,
    search: ValueSearch,
    answer: int | None = None,
    window: int | None = None,
    below: tuple[int, Float[Array, "n r l width"]] | None = None,
    start: Callable[[ValueProblem], Float[Array, "n width"]] | None = None,
) -> EditValues:
    """Optimizes δ of every fact of a batch, of `EditableModel.rows_at_once` facts at a time.

    Args:
      model: the network.
      kernels: as they are now.
      facts: prompts and new answers ``[n, r, l]``.
      real: facts that count.
      layer: whose MLP's output δ is added to; static.
      search: see there.
      answer: tokens of the longest answer, static; None: as many as there are positions.
      window: positions from a subject's last token to its answer's end at most, static; None: as
        many as there are. Only these are run again and again (`language.past`).
      below: a layer up to ``layer``, static, and the residual stream before it, if that is known.
      start: gives the δ that the search begins with; None: zero.
    """
    hidden = None if below is None else below[1]

    def of_facts(part: tuple[ContextBatch, Array, Array | None]) -> EditValues:
        facts, real, hidden = part
        known = None if below is None or hidden is None else (below[0], hidden)
        problem = ValueProblem.of(model, kernels, facts, layer, search, answer, window, known)
        first = jnp.zeros_like(problem.prompts.reached)
        if start is not None:
            first = jnp.where(real[:, None], start(problem), first)

        def loss(delta: Array) -> tuple[Array, tuple[Array, Array]]:
            each, said = problem.losses(delta)
            return each.sum(), (each, said)  # a fact's loss depends on its own δ alone

        return _minimize(loss, first, real, problem.bound, search)

    return by_parts(of_facts, (facts, real, hidden), model.rows_at_once)


def _last_rows(scores: Float[Array, "rows p v"], count: int) -> Float[Array, "n v"]:
    """Of the last place in the last row of each of so many facts."""
    return scores.reshape(count, -1, *scores.shape[1:])[:, -1, -1]


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
    added_to: str,
    room: tuple[int | None, int | None],
    below: tuple[int, Array] | None,
) -> _Prompts:
    """Runs the whole rows once, without δ, and keeps what the search needs of that.

    ``room`` is that for an answer, and that from a subject's last token to an answer's end.
    """
    facts_each, length = facts.subject.shape[1], facts.rows.tokens.shape[-1]
    batch, subject = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (facts.rows, jnp.maximum(facts.subject, 0))
    )
    start = below and (below[0], below[1].reshape(*batch.tokens.shape, -1))
    hidden = stream_before(model, params, batch, layer, start)
    scored, labels = _places(batch, subject, facts_each, min(room[0] or length, length))
    down, stream = f"layers/{layer}/mlp/down", f"layers/{layer}"
    _, seen = apply(
        model.config,
        params,
        batch.tokens,
        batch.attention,
        capture=(down, stream, *captures(model.config, layer)),
        start=(layer, hidden),
    )
    rows = jnp.arange(len(subject))
    if added_to == "stream":
        reached = seen[stream][rows, subject]
    else:
        reached = mlp_output(params, layer, seen[down][rows, subject])
    first = reached.astype(model.dtype)[::facts_each]
    places = subject[:, None] + jnp.arange(min(room[1] or length, length))
    inside = jnp.minimum(places, length - 1)
    return _Prompts(
        tokens=jnp.take_along_axis(batch.tokens, inside, axis=1),
        attention=jnp.take_along_axis(batch.attention, inside, axis=1) & (places < length),
        hidden=jnp.take_along_axis(hidden, inside[..., None], axis=1),
        past=past_of(model.config, params, seen, batch.attention, subject),
        scored=jnp.clip(scored - subject[:, None], 0, places.shape[1] - 1),
        labels=labels,
        reached=first,
        size=_norm(first),
    )


def mlp_output(
    params: Params, layer: int, inputs: Float[Array, "n d_in"]
) -> Float[Array, "n width"]:
    """What the MLP of a layer adds, before a norm that may follow, of inputs of its last matrix."""
    down = layer_parameters(params, layer)["mlp"]["down"]
    return linear(down["kernel"], inputs, down.get("bias"))


def stream_before(
    model: EditableModel,
    params: Params,
    batch: TokenBatch,
    layer: int,
    start: tuple[int, Array] | None,
) -> Float[Array, "rows l width"]:
    """The residual stream before a layer, of a pass that may begin above the first."""
    if start is not None and start[0] == layer:
        return start[1]
    if not layer:
        return embed(model.config, params, batch.tokens)
    name = f"layers/{layer - 1}"
    seen = apply(model.config, params, batch.tokens, batch.attention, capture=(name,), start=start)
    return seen[1][name]


def _places(
    batch: TokenBatch, subject: Int[Array, " rows"], facts_each: int, room: int
) -> tuple[Int[Array, "rows p"], Int[Array, "rows p"]]:
    """Where predictions count, and the labels there; the last of a fact's last row is the
    subject's."""
    places = jnp.argsort(~batch.scored, axis=1, stable=True)[:, :room]
    labels = jnp.take_along_axis(batch.labels, places, axis=1)
    if facts_each == 1:  # the one row is also the last
        places = jnp.c_[places, subject]
        return places, jnp.pad(labels, ((0, 0), (0, 1)), constant_values=IGNORED)
    last = jnp.arange(len(places)) % facts_each == facts_each - 1
    return jnp.where(last[:, None], subject[:, None], places), labels


def _log_probabilities(
    model: EditableModel, params: Params, prompts: _Prompts, layer: int, delta: Array
) -> Float[Array, "rows p v"]:
    """Of the next token at the places that count, with δ at the subjects."""
    tap = jnp.zeros((*prompts.tokens.shape, delta.shape[-1]), delta.dtype)
    tap = tap.at[:, 0].set(jnp.repeat(delta, len(tap) // len(delta), axis=0))
    logits, _ = apply(
        model.config,
        params,
        prompts.tokens,
        prompts.attention,
        {f"layers/{layer}/mlp/down": Hook(tap=tap)},
        start=(layer, prompts.hidden),
        positions=prompts.scored,
        past=prompts.past,
    )
    return jax.nn.log_softmax(logits)


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
