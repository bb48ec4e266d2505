"""What an edit looks like from inside: inputs of the edited layers, gradients at their outputs.

One forward and one backward pass give, for every token that is predicted, the input u of each
edited layer and the gradient v of the loss with respect to its output. The gradient of the kernel
would be ``Σ u vᵀ`` and is never formed. Source: MEND (arXiv 2110.11309), section 3; RLEdit
``editor/base.py`` writes both to disk instead.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch, values_known
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.objective import answer_loss
from modeledit_jax.lifelong.parts_of_rows import part_size, split
from modeledit_jax.types import Array, Field

Tokens = Literal["answer", "all"]
"""Which positions count: those that predict the answer (MALMEN, RLEdit) or all (MEND)."""


@struct.dataclass
class Rows:
    """``r`` tokens of one batch of edits; rows where ``mask`` is False are zero."""

    keys: Field  # {module: u [r, d_in]}
    values: Field  # {module: v [r, d_out]}
    mask: Field  # [r] bool


def capture(
    model: EditableModel,
    kernels: Kernels,
    batch: TokenBatch,
    rows: int,
    tokens: Tokens = "answer",
) -> tuple[Float[Array, ""], Rows]:
    """Returns the loss of a batch of edits, and its rows.

    Args:
      model: whose modules are read.
      kernels: their present state.
      batch: prompts and new answers, ``[n, l]``.
      rows: room for so many tokens, static; see `rows_needed`.
      tokens: which positions count.

    Raises:
      ValueError: more tokens count than there is room for, as far as their number is known: under
        a transformation such as `jax.jit` it is not, and the caller has to check the whole stream
        (`check_rows`).
    """
    check_rows(batch, rows, tokens)
    return _capture(model, kernels, batch, rows, tokens)


@partial(jax.jit, static_argnames=("rows", "tokens"))
def _capture(
    model: EditableModel, kernels: Kernels, batch: TokenBatch, rows: int, tokens: Tokens
) -> tuple[Float[Array, ""], Rows]:
    n, length = batch.tokens.shape
    size = part_size(n, model.rows_at_once)
    if size == n:
        return _capture_rows(model, kernels, batch, rows, tokens)
    few = tokens == "answer" and batch.places is not None
    room = min(rows, size * (batch.places.shape[-1] if few else length))
    total = jnp.maximum(batch.scored.sum(), 1)

    def part(own: TokenBatch) -> tuple[Array, Rows, Array]:
        value, found = _capture_rows(model, kernels, own, room, tokens)
        share = own.scored.sum() / total  # of the tokens that the loss is the mean of
        return value * share, _scaled(found, share), _places(own, room, tokens)[0]

    values, found, places = jax.lax.map(part, jax.tree.map(partial(split, size=size), batch))
    fact, place = places // length, places % length
    fact = fact * (n // size) + jnp.arange(n // size)[:, None]  # as `split` has dealt them out
    found = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)
    order = jnp.where(found.mask, (fact * length + place).reshape(-1), n * length)
    order = jnp.argsort(order, stable=True)
    return values.sum(), _with_room(jax.tree.map(lambda leaf: leaf[order], found), rows, n * length)


def _capture_rows(
    model: EditableModel, kernels: Kernels, batch: TokenBatch, rows: int, tokens: Tokens
) -> tuple[Float[Array, ""], Rows]:
    """`capture` of all facts in one pass."""
    n, length = batch.tokens.shape
    taps = {
        name: jnp.zeros((n, length, d_out), model.dtype)
        for name, (_, d_out) in model.shapes.items()
    }

    def loss(taps: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        hooks = {name: Hook(tap=tap) for name, tap in taps.items()}
        logits, inputs = model.forward(kernels, batch, hooks, model.modules, batch.positions)
        return answer_loss(logits, batch.answers), inputs

    (value, inputs), gradients = jax.value_and_grad(loss, has_aux=True)(taps)
    places, mask = _places(batch, rows, tokens)
    return value, Rows(
        keys={name: _take(array, places, mask) for name, array in inputs.items()},
        values={name: _take(array, places, mask) for name, array in gradients.items()},
        mask=mask,
    )


def _scaled(found: Rows, factor: Array) -> Rows:
    """Rows of a loss that counts so many times."""
    return replace(found, values=jax.tree.map(lambda value: value * factor, found.values))


def _with_room(found: Rows, rows: int, most: int) -> Rows:
    """The first rows of a batch of at most so many, filled up with zeros."""
    rows = min(rows, most)

    def sized(leaf: Array) -> Array:
        missing = max(rows - len(leaf), 0)
        return jnp.pad(leaf[:rows], [(0, missing), *((0, 0),) * (leaf.ndim - 1)])

    return jax.tree.map(sized, found)


def row_facts(batch: TokenBatch, rows: int, tokens: Tokens = "answer") -> Int[Array, " r"]:
    """The number within the batch of the fact that each row of `capture` is a token of."""
    places, _ = _places(batch, rows, tokens)
    return places // batch.tokens.shape[-1]


def rows_needed(stream: TokenBatch, tokens: Tokens = "answer", minibatch: int | None = None) -> int:
    """The most tokens that count in any batch of a stream ``[..., n, l]``.

    Args:
      stream: concrete arrays.
      tokens: which positions count.
      minibatch: in any part of so many rows of a batch, instead; it must divide the batch.
    """
    per_row = tokens_per_fact(stream, tokens)
    return int(per_row.reshape(-1, minibatch or per_row.shape[-1]).sum(-1).max())


def tokens_per_fact(stream: TokenBatch, tokens: Tokens = "answer") -> Int[np.ndarray, "..."]:
    """How many tokens of each fact ``[...]`` of a stream ``[..., l]`` of known values count."""
    counted = np.asarray(stream.labels) != IGNORED if tokens == "answer" else stream.attention
    return np.asarray(counted).sum(-1)


def check_rows(
    stream: TokenBatch, rows: int, tokens: Tokens = "answer", minibatch: int | None = None
) -> None:
    """Checks that ``rows`` hold all tokens that count of every batch; see `rows_needed`.

    Does nothing inside `jax.jit`, where no value is known.

    Raises:
      ValueError: they do not; the tokens beyond them would be left out.
    """
    if not values_known(stream):
        return
    needed = rows_needed(stream, tokens, minibatch)
    if needed > rows:
        what = "answer tokens" if tokens == "answer" else "tokens"
        part = f"a minibatch of {minibatch} facts" if minibatch else "a batch"
        raise ValueError(
            f"rows={rows}: {part} has {needed} {what}, those beyond the rows would be left out; "
            f"give at least rows={needed}, or a smaller batch"
        )


def _places(
    batch: TokenBatch, rows: int, tokens: Tokens
) -> tuple[Int[Array, " r"], Bool[Array, " r"]]:
    """Flat positions that count, in their order, and which of the ``rows`` hold one."""
    counted = (batch.scored if tokens == "answer" else batch.attention).reshape(-1)
    rows = min(rows, counted.size)
    places = jnp.argsort(~counted, stable=True)[:rows]
    return places, counted[places]


def _take(array: Array, places: Array, mask: Array) -> Array:
    flat = array.reshape(-1, array.shape[-1])[places]
    flat = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
    return jnp.where(mask[:, None], flat, 0.0)
