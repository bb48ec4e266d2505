"""Causal attention of decoders: rotary positions, sliding windows, shared keys, soft caps."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.hooked_linear import at_least_float32
from modeledit_jax.types import Array


def rotary_angles(
    config: LanguageModelConfig, positions: Int[Array, "*n l"], dtype: jnp.dtype = jnp.float32
) -> Float[Array, "*n l half"]:
    """Returns the angle by which each pair of features turns at each position.

    Source: RoFormer (Su et al. 2021); the frequencies of Llama 3.1 are stretched as its released
    configuration ``"rope_type": "llama3"`` says (see `RotaryScaling`).
    """
    exponents = jnp.arange(0, config.head_dim, 2, dtype=dtype) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if (scaling := config.rope_scaling) is not None:
        turns = scaling.original_context * frequencies / (2 * jnp.pi)
        span = scaling.high_frequency - scaling.low_frequency
        kept = jnp.clip((turns - scaling.low_frequency) / span, 0.0, 1.0)
        frequencies = frequencies * (kept + (1.0 - kept) / scaling.factor)
    return positions.astype(dtype)[..., None] * frequencies


def rotate(
    x: Float[Array, "n l heads d"], angles: Float[Array, "*n l half"]
) -> Float[Array, "n l heads d"]:
    """Turns feature ``i`` and feature ``i + d/2`` of every head against each other."""
    cos, sin = jnp.cos(angles)[..., None, :], jnp.sin(angles)[..., None, :]
    first, second = jnp.split(x.astype(at_least_float32(x.dtype)), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def visible(
    causal: Bool[Array, "n q s"], distance: Int[Array, "*n q s"], window: Int[Array, ""] | int
) -> Bool[Array, "n q s"]:
    """Returns which keys (last axis) a query sees: those of ``causal`` within its window."""
    return causal & (distance < window)


def causal_mask(attention: Bool[Array, "n l"]) -> Bool[Array, "n l l"]:
    """Returns which keys (last axis) a query sees: real ones up to its own position."""
    positions = jnp.arange(attention.shape[-1])
    return attention[:, None, :] & (positions[:, None] >= positions)


def attend(
    query: Float[Array, "n q heads d"],
    key: Float[Array, "n s kv_heads d"],
    value: Float[Array, "n s kv_heads d"],
    mask: Bool[Array, "n q s"],
    scale: float,
    softcap: float | None = None,
) -> Float[Array, "n q heads*d"]:
    """Returns softmax attention, heads concatenated; scores and weights are float32 at least.

    A query that sees nothing (padding) averages all values: finite, and read by nobody.
    """
    n, length, heads, d = query.shape
    dtype = at_least_float32(query.dtype)
    grouped = query.reshape(n, length, key.shape[2], -1, d)
    scores = scale * jnp.einsum("nqkgd,nskd->nkgqs", grouped, key, preferred_element_type=dtype)
    scores = cap(scores, softcap)
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    mixed = jnp.einsum("nkgqs,nskd->nqkgd", weights, value, preferred_element_type=dtype)
    return mixed.reshape(n, length, heads * d).astype(query.dtype)


def cap(x: Float[Array, "..."], limit: float | None) -> Float[Array, "..."]:
    """Returns ``limit · tanh(x / limit)``, or ``x`` where there is no limit (Gemma 2)."""
    return x if limit is None else limit * jnp.tanh(x / limit)
