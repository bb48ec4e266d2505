"""What a network says at the subjects of facts; nothing below the edited layers is run twice."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from modeledit_jax.data.facts.contexts import ContextBatch
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.hooked_linear import at_least_float32
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.edit_values import stream_before
from modeledit_jax.lifelong.model import Changes, EditableModel
from modeledit_jax.types import Array, Params


def counted(batch: FactBatch) -> Bool[Array, " n"]:
    """Facts that are no filling and say what they are about."""
    return batch.real & (batch.subject_last >= 0)


def check_subjects(facts: FactBatch) -> None:
    """Checks that every fact says what it is about.

    Raises:
      ValueError: some do not; the message says how many.
    """
    lacking = np.asarray(facts.real) & (np.asarray(facts.subject_last) < 0)
    if lacking.any():
        raise ValueError(
            f"{lacking.sum()} facts do not say what they are about: closed-form editing needs the "
            "subject of each, spelled as in its prompt"
        )


def rows_before(
    model: EditableModel, params: Params, facts: ContextBatch, layer: int
) -> Float[Array, "n r l width"]:
    """The residual stream before a layer; known if it is the first that may be edited."""
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), facts.rows)
    start = None if rows.hidden is None else (model.first_layer, rows.hidden)
    hidden = stream_before(model, params, rows, layer, start)
    return hidden.reshape(*facts.rows.tokens.shape, -1)


def at_subjects(
    config: LanguageModelConfig,
    params: Params,
    facts: ContextBatch,
    below: tuple[int, Float[Array, "n r l width"]],
    rows: slice,
    changes: Changes,
    names: Sequence[str],
) -> tuple[Float[Array, "n k _"], ...]:
    """Inputs of modules, or the residual stream after layers, at the subjects of some rows; the
    layers above are never run, for nobody asks for them."""
    layer, hidden = below
    part, hidden = jax.tree.map(lambda leaf: leaf[:, rows], (facts, hidden))
    count, length = part.subject.shape[1], hidden.shape[2]
    tokens, attention = (
        leaf.reshape(-1, length) for leaf in (part.rows.tokens, part.rows.attention)
    )
    start = (layer, hidden.reshape(-1, length, hidden.shape[-1]))
    seen = apply(config, params, tokens, attention, changes, tuple(names), start=start)[1]
    places = jnp.maximum(part.subject.reshape(-1), 0)
    found = (seen[name][jnp.arange(len(places)), places] for name in names)
    return tuple(
        rows.reshape(-1, count, rows.shape[-1]).astype(at_least_float32(rows.dtype))
        for rows in found
    )
