"""Decoder language model: a pure function of a nested dict, every linear layer with a hook.

One forward pass, driven by `LanguageModelConfig`, serves GPT-2, Llama 3, Mistral, Qwen2 and
Gemma 2. Linear layers are named by their path (``layers/3/mlp/down``); a hook under that name reads
or edits the layer (see `hooked_linear`), and the leaf is the name with ``/kernel``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax.language.attention import cap
from modeledit_jax.language.config import (
    LanguageModelConfig,
    all_modules,
    module_names,
    tiny_llama,
)
from modeledit_jax.language.hooked_linear import at_least_float32, linear
from modeledit_jax.language.layer import (
    Captured,
    Hooks,
    KeysAndValues,
    Shared,
    decoder_layer,
    normalize,
)
from modeledit_jax.language.parameters import (
    init_params,
    layers_are_stacked,
    stack_layers,
    unstack_layers,
)
from modeledit_jax.language.past import Past, shared_by_layers
from modeledit_jax.types import Array, Params

__all__ = [
    "LanguageModelConfig",
    "apply",
    "init_params",
    "module_names",
    "stack_layers",
    "tiny_llama",
    "unstack_layers",
]


def apply(
    config: LanguageModelConfig,
    params: Params,
    tokens: Int[Array, "n l"],
    attention: Bool[Array, "n l"] | None = None,
    hooks: Hooks | None = None,
    capture: tuple[str, ...] = (),
    *,
    start: tuple[int, Float[Array, "n l width"]] | None = None,
    positions: Int[Array, "n p"] | None = None,
    past: Past | None = None,
) -> tuple[Float[Array, "n p vocab"], Captured]:
    """Predicts the next token at every position.

    Args:
      config: static under `jax.jit`.
      params: see `init_params`; the dtype of its leaves is the dtype of the computation.
      tokens: ids, padded on the right. An id outside the vocabulary makes its row NaN.
      attention: False where padded; all True if None.
      hooks: by module name; see `Hook`.
      capture: names of modules whose input is wanted, and of layers (``layers/3``) after which the
        residual stream is; static. What nobody uses is left out by the compiler, logits too.
      start: a layer, static, and the residual stream before it: of a pass whose layers below are
        done already.
      positions: where logits are wanted, in every row; None: everywhere, ``p = l``.
      past: of the layers from ``start`` on, what stands before the tokens (`past_of`); it takes a
        ``start``.

    Returns:
      Logits in float32 at least, and of each captured module the input ``[n, l, d_in]``, of each
      captured layer the residual stream after it, ``[n, l, width]``.

    With ``config.scan_layers`` names stay the same: layers with a hook or a capture are unrolled
    and the runs of layers between them are scanned, so that no layer carries another's hook.

    Raises:
      ValueError: more tokens than ``config.context``, an unknown module (the message lists the
        modules), one below ``start``, a past without it, or stacked layers without ``scan_layers``
        and the reverse.
    """
    hooks = hooks or {}
    begin = 0 if start is None else start[0]
    _check(config, params, tokens.shape[1], hooks, capture, begin)
    if attention is None:
        attention = jnp.ones(tokens.shape, bool)
    if past is not None and start is None:
        raise ValueError("a past without the residual stream that goes on: give start as well")
    dtype = at_least_float32(params["tokens"]["embedding"].dtype)
    shared = shared_by_layers(config, attention, dtype, past)
    hidden = embed(config, params, tokens) if start is None else start[1]
    layers, before = params["layers"], {} if past is None else past.layers
    hidden, captured = _layers(config, layers, hidden, shared, hooks, capture, begin, before)
    if positions is not None:
        hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
    hidden = normalize(config, params["final_norm"], hidden)
    if "head" in capture:
        captured["head"] = hidden
    kernel = params["tokens"]["embedding"].T if config.tied_head else params["head"]["kernel"]
    logits = linear(kernel, hidden, hook=hooks.get("head"), dtype=dtype)
    return cap(logits, config.final_softcap), captured


def hidden_below(
    config: LanguageModelConfig,
    params: Params,
    tokens: Int[Array, "t n l"],
    attention: Bool[Array, "t n l"],
    layer: int,
) -> Float[Array, "t n l width"]:
    """The residual stream before a layer, of batches that are read one after another.

    Each layer is a call of its own, so that one is compiled instead of all; not under `jax.jit`.
    """
    hidden = _embed_batches(config, params, tokens)
    for index in range(layer):
        stacked = config.scan_layers
        own = params["layers"] if stacked else params["layers"][str(index)]
        own = jax.tree.map(lambda w, i=index: w[i], own) if stacked else own
        hidden = _layer_of_batches(
            config, own, hidden, attention, jnp.asarray(config.window(index))
        )
    return hidden


@partial(jax.jit, static_argnames="config")
def _embed_batches(config: LanguageModelConfig, params: Params, tokens: Array) -> Array:
    return jax.lax.map(partial(embed, config, params), tokens)


@partial(jax.jit, static_argnames="config")
def _layer_of_batches(
    config: LanguageModelConfig, layer: Params, hidden: Array, attention: Array, window: Array
) -> Array:
    def run(batch: tuple[Array, Array]) -> Array:
        hidden, attention = batch
        shared = shared_by_layers(config, attention, at_least_float32(hidden.dtype))
        return decoder_layer(config, (), layer, hidden, shared, window, {})[0]

    return jax.lax.map(run, (hidden, attention))


def _check(
    config: LanguageModelConfig,
    params: Params,
    length: int,
    hooks: Hooks,
    capture: tuple[str, ...],
    begin: int,
) -> None:
    if length > config.context:
        raise ValueError(
            f"{length} tokens do not fit the context of {config.context}; shorten the prompt"
        )
    known, layers = all_modules(config), [f"layers/{i}" for i in range(config.num_layers)]
    if unknown := sorted((set(hooks) | set(capture) - set(layers)) - set(known)):
        raise ValueError(
            f"no module named {', '.join(unknown)}; the modules are: {', '.join(known)}"
        )
    below = [n for n in (*hooks, *capture) if n != "head" and int(n.split("/")[1]) < begin]
    if below:
        raise ValueError(f"the pass starts at layer {begin}, above {', '.join(sorted(below))}")
    if layers_are_stacked(params) != config.scan_layers:
        cure = "stack_layers(params)" if config.scan_layers else "unstack_layers(params)"
        raise ValueError(
            f"the layers of params do not fit scan_layers={config.scan_layers}; pass {cure}"
        )


def embed(
    config: LanguageModelConfig, params: Params, tokens: Int[Array, "n l"]
) -> Float[Array, "n l width"]:
    """The residual stream before the first layer."""
    # `take` fills with NaN beyond the table, where indexing would quietly use its last row.
    hidden = jnp.take(params["tokens"]["embedding"], tokens, axis=0)
    hidden = hidden * jnp.asarray(config.embedding_scale, hidden.dtype)
    if config.positions == "learned":
        hidden = hidden + params["positions"]["embedding"][: tokens.shape[1]]
    return hidden


def _layers(
    config: LanguageModelConfig,
    layers: Params,
    hidden: Array,
    shared: Shared,
    hooks: Hooks,
    capture: tuple[str, ...],
    begin: int,
    past: Mapping[int, KeysAndValues],
) -> tuple[Array, Captured]:
    """All layers from ``begin`` on in turn; with ``scan_layers``, runs of plain ones in a scan."""
    captured: Captured = {}
    special = {int(name.split("/")[1]) for name in (*hooks, *capture) if name != "head"}
    index = begin
    while index < config.num_layers:
        if config.scan_layers and index not in special:
            end = min((i for i in special if i > index), default=config.num_layers)
            hidden = _scan(config, layers, hidden, shared, index, end, past)
            index = end
            continue
        prefix = f"layers/{index}/"
        stacked = config.scan_layers
        layer = jax.tree.map(lambda w, i=index: w[i], layers) if stacked else layers[str(index)]
        hidden, inputs = _run_layer(
            config,
            layer,
            hidden,
            shared,
            config.window(index),
            {name.removeprefix(prefix): hooks[name] for name in hooks if name.startswith(prefix)},
            tuple(name.removeprefix(prefix) for name in capture if name.startswith(prefix)),
            past.get(index),
        )
        captured |= {prefix + name: value for name, value in inputs.items()}
        if f"layers/{index}" in capture:
            captured[f"layers/{index}"] = hidden
        index += 1
    return hidden, captured


def _scan(
    config: LanguageModelConfig,
    layers: Params,
    hidden: Array,
    shared: Shared,
    begin: int,
    end: int,
    past: Mapping[int, KeysAndValues],
) -> Array:
    """Layers ``begin`` to ``end`` of stacked ``layers``, without hooks."""
    whole = end - begin == config.num_layers
    windows = jnp.asarray([config.window(index) for index in range(begin, end)])
    kept = [past[index] for index in range(begin, end)] if past else None
    before = kept and jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)

    def step(hidden: Array, scanned: tuple[Array, Params, Any]) -> tuple[Array, None]:
        window, layer, own = scanned
        if not whole:
            # Part of the stack, picked in place: a slice handed to scan would copy those weights.
            layer = jax.tree.map(
                lambda w: jax.lax.dynamic_index_in_dim(w, layer, keepdims=False), layers
            )
        return _run_layer(config, layer, hidden, shared, window, {}, (), own)[0], None

    scanned = (windows, layers if whole else jnp.arange(begin, end), before)
    return jax.lax.scan(step, hidden, scanned)[0]


def _run_layer(
    config: LanguageModelConfig,
    layer: Params,
    hidden: Array,
    shared: Shared,
    window: Array | int,
    hooks: Hooks,
    capture: tuple[str, ...],
    past: KeysAndValues | None = None,
) -> tuple[Array, Captured]:
    run: Callable[..., tuple[Array, Captured]] = partial(decoder_layer, config, capture)
    if config.remat:
        run = jax.checkpoint(run)
    return run(layer, hidden, shared, jnp.asarray(window), dict(hooks), past)
