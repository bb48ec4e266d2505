"""Positions that were run before: what they leave to those that come after them.

A change at one position of a prompt reaches none before it. Where the same prompt is run again and
again with other changes, those before are run once, and what attention sees of them is kept.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from modeledit_jax import struct
from modeledit_jax.language.attention import causal_mask, rotary_angles
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.hooked_linear import at_least_float32, linear
from modeledit_jax.language.layer import Captured, KeysAndValues, Shared, keys_and_values
from modeledit_jax.types import Field, Params


@struct.dataclass
class Past:
    """``s`` positions of ``n`` rows, of which those before ``begin`` count."""

    layers: Field  # {layer: keys and values [n, s, kv_heads, head_dim]}
    attention: Field  # [n, s] bool: not padded, and before the row's first position
    begin: Field  # [n] int32: where in its row the first position of the next pass stands


def captures(config: LanguageModelConfig, first: int) -> tuple[str, ...]:
    """The modules whose inputs `past_of` needs, of the layers from ``first`` on."""
    return tuple(f"layers/{index}/attention/key" for index in range(first, config.num_layers))


def past_of(
    config: LanguageModelConfig,
    params: Params,
    captured: Captured,
    attention: Bool[Array, "n s"],
    begin: Int[Array, " n"],
) -> Past:
    """Keys and values of a pass over all positions, for passes that begin at ``begin``.

    Args:
      config, params: of the pass; no hook of it may change keys or values.
      captured: the inputs of `captures`.
      attention: of the pass.
      begin: where each row goes on.
    """
    positions = jnp.arange(attention.shape[1])
    layers = {
        int(name.split("/")[1]): _of_layer(config, params, int(name.split("/")[1]), x, positions)
        for name, x in captured.items()
        if name.endswith("/attention/key")
    }
    return Past(layers, attention & (positions < begin[:, None]), begin)


def _of_layer(
    config: LanguageModelConfig, params: Params, layer: int, x: Array, positions: Array
) -> KeysAndValues:
    stacked, layers = config.scan_layers, params["layers"]
    leaves = jax.tree.map(lambda w: w[layer], layers) if stacked else layers[str(layer)]

    def project(name: str, x: Array) -> Array:
        part, module = name.split("/")
        own = leaves[part][module]
        return linear(own["kernel"], x, own.get("bias"))

    return keys_and_values(config, project, x, _angles(config, positions, x.dtype))


def _angles(config: LanguageModelConfig, positions: Array, dtype: jnp.dtype) -> Array | None:
    if config.positions != "rotary":
        return None
    return rotary_angles(config, positions, at_least_float32(dtype))


def shared_by_layers(
    config: LanguageModelConfig,
    attention: Bool[Array, "n l"],
    dtype: jnp.dtype,
    past: Past | None = None,
) -> Shared:
    """What the layers of a pass over ``l`` positions, after a past if given, have in common."""
    causal, own = causal_mask(attention), jnp.arange(attention.shape[1])
    if past is None:
        return Shared(causal, own[:, None] - own, _angles(config, own, dtype))
    before = jnp.arange(past.attention.shape[1])
    queries = past.begin[:, None] + own
    seen = jnp.broadcast_to(past.attention[:, None], (*causal.shape[:2], len(before)))
    keys = jnp.concatenate([jnp.broadcast_to(before, past.attention.shape), queries], axis=1)
    return Shared(
        jnp.concatenate([seen, causal], axis=2),
        queries[:, :, None] - keys[:, None],
        _angles(config, queries, dtype),
    )
