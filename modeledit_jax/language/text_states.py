"""Hidden states of texts: the layers up to one are run, and the tokens of each text pooled.

A classifier on such states is a head of the language model. The residual stream after a layer is
the sum of what was before and of ``down(a)``, and pooling is linear: so with the pooled stream goes
the pooled input ``a`` of the layer's last linear module (``mlp/down``), with which any edit of that
module's kernel is evaluated without running the network again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from modeledit_jax import struct
from modeledit_jax.language.config import LanguageModelConfig
from modeledit_jax.language.model import apply, embed
from modeledit_jax.types import Array, Field, Params

Pooling = Literal["mean", "last"]
"""Over the tokens of a text: their mean, or the last one."""

TOKENS_AT_ONCE = 2048
"""Of one forward pass, padding included: enough for full matrix products, few enough for caches."""

_STEP = 4  # lengths of passes are multiples of it, so that few programs are compiled


@struct.dataclass
class TextStates:
    """What is known of ``N`` texts, float32."""

    pooled: Field  # [N, width], the residual stream after the layers
    inputs: Field  # [N, mlp_width], inputs of `mlp/down` of the last layer; [N, 0] without layers


def check_layer(config: LanguageModelConfig, layer: int) -> None:
    """Raises ValueError unless the network has so many layers."""
    if not 0 <= layer <= config.num_layers:
        raise ValueError(
            f"layer {layer} of a language model of {config.num_layers} layers: choose 0 (the token "
            f"embeddings) to {config.num_layers}"
        )


def text_ids(
    tokenizer: Tokenizer, texts: Sequence[str], length: int, start: int | None
) -> list[list[int]]:
    """Token ids of texts, cut to ``length``, behind the token that begins every text.

    Args:
      tokenizer: of the network; special tokens of its own are left out.
      texts: a text without a token keeps the start alone.
      length: tokens of a text.
      start: what the network has met at the beginning of texts in its training; None: nothing.

    Raises:
      ValueError: ``length`` is not positive, or a text has no token and there is no start.
    """
    if length < 1:
        raise ValueError(f"length is {length}: a text needs room for at least one token")
    begin = [] if start is None else [start]
    found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ids = [begin + encoding.ids[:length] for encoding in found]
    empty = [text for text, own in zip(texts, ids, strict=True) if not own]
    if empty:
        raise ValueError(f"the text {empty[0]!r} has no token: leave it out")
    return ids


def lowest_layers(config: LanguageModelConfig, params: Params, layer: int) -> Params:
    """Parameters of what `text_states` runs: embeddings and the first ``layer`` layers.

    Raises:
      ValueError: the network has fewer layers, or they are stacked.
    """
    check_layer(config, layer)
    if config.scan_layers:
        raise ValueError("the layers of params are stacked: pass unstack_layers(params)")
    kept = {name: params[name] for name in ("tokens", "positions", "final_norm") if name in params}
    return {**kept, "layers": {str(index): params["layers"][str(index)] for index in range(layer)}}


def text_states(
    config: LanguageModelConfig,
    params: Params,
    ids: Sequence[Sequence[int]],
    layer: int,
    pooling: Pooling = "mean",
    start: bool = True,
) -> Iterator[tuple[Int[np.ndarray, " n"], TextStates]]:
    """Runs texts in batches of like length, from the shortest to the longest.

    Args:
      config: of the network.
      params: `lowest_layers`.
      ids: of `text_ids`.
      layer: how many layers are run; 0: the token embeddings themselves.
      pooling: see `Pooling`.
      start: whether the first token of each is the one that begins every text. It is no part of
        the mean: networks store there what has nothing to do with the text.

    Yields:
      Rows of ``ids``, and their states as NumPy arrays.

    Raises:
      ValueError: ids that do not fit the network's context.
    """
    check_layer(config, layer)
    lengths = np.array([len(own) for own in ids])
    if len(ids) and lengths.max() > config.context:
        raise ValueError(
            f"{lengths.max()} tokens do not fit the context of {config.context}: shorten the texts"
        )
    # Head and layers above are not run; without them the head's kernel is not needed either.
    lower = replace(
        config, num_layers=max(layer, 1), tied_head=True, windows=config.windows[:layer]
    )
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        room, size = _room(lengths[order[begin:]], config.context)
        rows = order[begin : begin + size]
        tokens = np.zeros((size, room), np.int32)
        attention = np.zeros((size, room), bool)
        for place, row in enumerate(rows):
            tokens[place, : lengths[row]] = ids[row]
            attention[place, : lengths[row]] = True
        states = _run(lower, params, tokens, attention, layer, pooling, start)
        number = len(rows)
        yield (
            rows,
            TextStates(np.asarray(states.pooled[:number]), np.asarray(states.inputs[:number])),
        )
        begin += number


def _room(lengths: np.ndarray, context: int) -> tuple[int, int]:
    """Length and rows of a pass over the next texts, shortest first, that holds all of its rows."""
    needed = int(lengths[0])
    while True:
        room = min(-(-needed // _STEP) * _STEP, context)
        size = max(TOKENS_AT_ONCE // room, 1)
        needed = int(lengths[:size].max())
        if needed <= room:
            return room, size


@partial(jax.jit, static_argnames=("config", "layer", "pooling", "start"))
def _run(
    config: LanguageModelConfig,
    params: Params,
    tokens: Int[Array, "n l"],
    attention: Bool[Array, "n l"],
    layer: int,
    pooling: Pooling,
    start: bool,
) -> TextStates:
    if layer == 0:
        hidden = embed(config, params, tokens)
        inputs = jnp.zeros((*tokens.shape, 0), jnp.float32)
    else:
        last = f"layers/{layer - 1}"
        _, found = apply(config, params, tokens, attention, capture=(last, f"{last}/mlp/down"))
        hidden, inputs = found[last], found[f"{last}/mlp/down"]
    weights = _pooling_weights(attention, pooling, start)

    def pool(x: Array) -> Array:
        return jnp.einsum("nl,nlw->nw", weights, x.astype(jnp.float32), precision="highest")

    return TextStates(pool(hidden), pool(inputs))


def _pooling_weights(attention: Array, pooling: Pooling, start: bool) -> Array:
    """Weights ``[n, l]`` of positions that sum to 1, or to 0 in a row without a token."""
    places, number = jnp.arange(attention.shape[1]), attention.sum(axis=1, keepdims=True)
    if pooling == "last":
        return (places == number - 1).astype(jnp.float32)
    # A text that consists of its start alone is pooled over that.
    counted = attention & ((places >= (1 if start else 0)) | (number == 1))
    return counted / jnp.maximum(counted.sum(axis=1, keepdims=True), 1)
