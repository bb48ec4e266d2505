"""One layer of a decoder: attention and MLP, normalized and added to the residual stream."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp

from modeledit_jax import struct
from modeledit_jax.language.attention import attend, rotate, visible
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.hooked_linear import Hook, at_least_float32, linear
from modeledit_jax.types import Array, Field, Params

Hooks = Mapping[str, Hook]
Captured = dict[str, Array]
KeysAndValues: TypeAlias = tuple[Array, Array]
"""Of one layer, each ``[n, s, kv_heads, head_dim]``, keys turned to their positions."""
Linear = Callable[[str, Array], Array]
"""``(module, x [n, l, d_in]) -> [n, l, d_out]`` of one layer, its hook included."""

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


@struct.dataclass
class Shared:
    """What all layers use, of ``q`` positions that are run and ``s`` that they may look at."""

    causal: Field  # [n, q, s] bool: which keys (last axis) a query may see at all
    distance: Field  # [q, s] or [n, q, s] int32: how far before its query a key stands
    angles: Field  # [q, head_dim / 2] or [n, q, head_dim / 2]; None without rotary positions


def decoder_layer(
    config: LanguageModelConfig,
    capture: tuple[str, ...],
    params: Params,
    hidden: Array,
    shared: Shared,
    window: Array,
    hooks: Hooks,
    past: KeysAndValues | None = None,
) -> tuple[Array, Captured]:
    """Runs one layer.

    Args:
      config: static.
      capture: static; modules of this layer (``"mlp/down"``) whose input is wanted.
      params: leaves of this layer.
      hidden: residual stream ``[n, l, width]``.
      shared: see `Shared`.
      window: how many last positions a query sees; an array, for it may vary within a scan.
      hooks: by module of this layer.
      past: keys and values of positions that were run before, the first among the ``s``.

    Returns:
      The residual stream after the layer, and the captured inputs by module of this layer.
    """
    captured: Captured = {}

    def project(name: str, x: Array) -> Array:
        if name in capture:
            captured[name] = x
        part, module = name.split("/")
        leaves = params[part][module]
        return linear(leaves["kernel"], x, leaves.get("bias"), hooks.get(name))

    mask = visible(shared.causal, shared.distance, window)
    normal = normalize(config, params["attention_norm"], hidden)
    update = _attention(config, project, normal, mask, shared.angles, past)
    if config.post_norms:
        update = normalize(config, params["attention_post_norm"], update)
    hidden = hidden + update
    update = _mlp(config, project, normalize(config, params["mlp_norm"], hidden))
    if config.post_norms:
        update = normalize(config, params["mlp_post_norm"], update)
    return hidden + update, captured


def keys_and_values(
    config: LanguageModelConfig, project: Linear, x: Array, angles: Array | None
) -> KeysAndValues:
    """What the attention of a layer looks at, of its input ``[n, l, width]``."""
    key, value = (_heads(config, project(f"attention/{name}", x)) for name in ("key", "value"))
    return key if angles is None else rotate(key, angles), value


def _heads(config: LanguageModelConfig, x: Array) -> Array:
    return x.reshape(*x.shape[:2], -1, config.head_dim)


def _attention(
    config: LanguageModelConfig,
    project: Linear,
    x: Array,
    mask: Array,
    angles: Array | None,
    past: KeysAndValues | None,
) -> Array:
    query = _heads(config, project("attention/query", x))
    if angles is not None:
        query = rotate(query, angles)
    key, value = keys_and_values(config, project, x, angles)
    if past is not None:
        key = jnp.concatenate([past[0], key], axis=1)
        value = jnp.concatenate([past[1], value], axis=1)
    mixed = attend(query, key, value, mask, config.attention_scale, config.attention_softcap)
    return project("attention/output", mixed)


def _mlp(config: LanguageModelConfig, project: Linear, x: Array) -> Array:
    activation = _ACTIVATIONS[config.activation]
    if config.gated_mlp:
        return project("mlp/down", activation(project("mlp/gate", x)) * project("mlp/up", x))
    return project("mlp/down", activation(project("mlp/up", x)))


def normalize(config: LanguageModelConfig, params: Params, x: Array) -> Array:
    """Root-mean-square or layer normalization, in float32 at least."""
    values = x.astype(at_least_float32(x.dtype))
    if config.norm == "layer":
        values = values - values.mean(-1, keepdims=True)
    values = values * jax.lax.rsqrt((values**2).mean(-1, keepdims=True) + config.norm_epsilon)
    scale = params["scale"].astype(values.dtype)
    values = values * (1.0 + scale if config.norm == "rms_plus_one" else scale)
    return (values + params["bias"] if config.norm == "layer" else values).astype(x.dtype)
