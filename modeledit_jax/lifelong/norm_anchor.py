"""Values of the length that those of the unedited network have: norm-anchor scaling.

Values that are searched in an edited network come out longer the longer its kernels are, and longer
values make its kernels longer: a loop that ends in collapse (NAS, arXiv 2602.02543, section 3). The
value of every fact is therefore given the length that values have in the unedited network.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax.data.facts.contexts import bare_rows
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.edit_values import ValueSearch, edit_values, mlp_output
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.lifelong.stream import TrainingLoop
from modeledit_jax.lifelong.subjects import at_subjects, counted, rows_before
from modeledit_jax.types import Array

KEPT = 0.95
"""Quantile of the lengths above which they do not count in their mean."""

TOO_LONG = 2.0
"""A value that is longer than so many typical ones is not edited in."""


def anchored(
    delta: Float[Array, "n d"], output: Float[Array, "n d"], length: Float[Array, ""]
) -> Float[Array, "n d"]:
    """The change of an MLP's output after which the output has a given length.

    Args:
      delta: change that was searched for every fact.
      output: of the MLP without it.
      length: wanted of ``output + delta``.

    Returns:
      The changes; zero for a fact whose value is longer than `TOO_LONG` times ``length``.
    """
    value = output + delta
    norm = jnp.linalg.norm(value, axis=-1, keepdims=True)
    scaled = value * (length / jnp.maximum(norm, 1e-10)) - output
    return jnp.where(norm > TOO_LONG * length, 0, scaled).astype(delta.dtype)


def typical_length(lengths: Float[Array, "s n"], real: Bool[Array, "s n"]) -> Float[Array, ""]:
    """Mean of the lengths of real facts up to their quantile `KEPT`."""
    known = jnp.where(real, lengths, jnp.nan)
    kept = known <= jnp.nanquantile(known, KEPT)
    return jnp.where(kept, lengths, 0).sum() / kept.sum()


def measured_length(
    model: EditableModel,
    stream: FactBatch,
    layer: int,
    search: ValueSearch,
    room: tuple[int | None, int | None],
    loop: TrainingLoop,
) -> Float[Array, ""]:
    """The `typical_length` of the values of the unedited network, on prompts alone.

    Args:
      model: the network.
      stream: facts ``[S, n, ...]`` of which values are searched.
      layer: whose MLP's output they are.
      search: how.
      room: ``answer`` and ``window`` of `edit_values`.
      loop: runs the batches.
    """

    def advance(lengths: Array, done: int, steps: int) -> tuple[Array, dict]:
        part = jax.tree.map(lambda leaf: leaf[done : done + steps], stream)
        found = _lengths(model, part, layer, search, room)
        return lengths.at[done : done + steps].set(found), {}

    nothing = jnp.zeros(stream.real.shape, jnp.float32)
    return typical_length(loop(nothing, advance, stream.batches, chunk=4), stream.real)


@partial(jax.jit, static_argnames=("layer", "search", "room"))
def _lengths(
    model: EditableModel,
    stream: FactBatch,
    layer: int,
    search: ValueSearch,
    room: tuple[int | None, int | None],
) -> Float[Array, "s n"]:
    kernels, module = model.kernels(), f"layers/{layer}/mlp/down"

    def of_batch(batch: FactBatch) -> Array:
        facts = bare_rows(batch.edit, batch.subject_last)
        real = counted(batch)
        below = (layer, rows_before(model, model.params, facts, layer))
        delta = edit_values(model, kernels, facts, real, layer, search, *room, below=below).delta
        bare = slice(0, 1)
        (keys,) = at_subjects(model.config, model.params, facts, below, bare, {}, (module,))
        keys = keys[:, 0]
        output = mlp_output(model.params, layer, keys)
        return jnp.linalg.norm((output + delta).astype(jnp.float32), axis=-1)

    return jax.lax.map(of_batch, stream)
