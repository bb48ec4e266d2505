"""What an edit looks like from inside: inputs of the edited layers, gradients at their outputs.

One forward and one backward pass give, for every token that is predicted, the input u of each
edited layer and the gradient v of the loss with respect to its output. The gradient of the kernel
would be ``Σ u vᵀ`` and is never formed. Source: MEND (arXiv 2110.11309), section 3; RLEdit
``editor/base.py`` writes both to disk instead.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.language.hooked_linear import Hook
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.lifelong.objective import answer_loss
from modeledit_jax.types import Array, Field

Tokens = Literal["answer", "all"]
"""Which positions count: those that predict the answer (MALMEN, RLEdit) or all (MEND)."""


@struct.dataclass
class Rows:
    """``r`` tokens of one batch of edits; rows where ``mask`` is False are zero."""

    keys: Field  # {module: u [r, d_in]}
    values: Field  # {module: v [r, d_out]}
    mask: Field  # [r] bool


@partial(jax.jit, static_argnames=("rows", "tokens"))
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
    """
    n, length = batch.tokens.shape
    taps = {
        name: jnp.zeros((n, length, d_out), model.dtype)
        for name, (_, d_out) in model.shapes.items()
    }
    params = model.with_kernels(kernels)

    def loss(taps: dict[str, Array]) -> tuple[Array, dict[str, Array]]:
        hooks = {name: Hook(tap=tap) for name, tap in taps.items()}
        logits, inputs = apply(
            model.config, params, batch.tokens, batch.attention, hooks, model.modules
        )
        return answer_loss(logits, batch.labels), inputs

    (value, inputs), gradients = jax.value_and_grad(loss, has_aux=True)(taps)
    places, mask = _places(batch, rows, tokens)
    return value, Rows(
        keys={name: _take(array, places, mask) for name, array in inputs.items()},
        values={name: _take(array, places, mask) for name, array in gradients.items()},
        mask=mask,
    )


def rows_needed(stream: TokenBatch, tokens: Tokens = "answer") -> int:
    """The most tokens that count in any batch of a stream ``[S, n, l]``."""
    counted = stream.scored if tokens == "answer" else stream.attention
    return int(counted.sum((-2, -1)).max())


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
