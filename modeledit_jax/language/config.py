"""One configuration for the decoders of five families: GPT-2, Llama 3, Mistral, Qwen2, Gemma 2."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from numbers import Integral
from typing import Any, Literal

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]
Norm = Literal["rms", "rms_plus_one", "layer"]
Positions = Literal["rotary", "learned"]


_SIZES = (
    "vocab_size",
    "width",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "mlp_width",
    "context",
)


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} is {value!r}: it must be an integer of at least 1")


@dataclass(frozen=True)
class RotaryScaling:
    """The "llama3" scaling of rotary frequencies (Llama 3.1): low ones are divided by ``factor``.

    Attributes:
      factor: by how much the context was stretched.
      low_frequency, high_frequency: waves longer than ``original_context / low_frequency`` are
        slowed by ``factor``, those shorter than ``original_context / high_frequency`` are kept,
        and those between are blended.
      original_context: positions of pre-training.
    """

    factor: float
    low_frequency: float
    high_frequency: float
    original_context: int


@dataclass(frozen=True)
class LanguageModelConfig:
    """A decoder-only transformer. Hashable: pass it as a static argument to `jax.jit`.

    Attributes:
      family: whose checkpoint layout `save_pretrained` writes; computes nothing.
      vocab_size, width, num_layers, mlp_width: as they say.
      num_heads, num_kv_heads, head_dim: queries share keys in groups of
        ``num_heads / num_kv_heads``.
      context: the longest sequence.
      activation: of the MLP.
      gated_mlp: ``down(act(gate(x)) · up(x))`` rather than ``down(act(up(x)))``.
      norm: ``"rms"``, ``"rms_plus_one"`` (weights are stored less one, as in Gemma) or ``"layer"``.
      norm_epsilon: added to the variance.
      post_norms: also normalize what attention and MLP add to the residual stream.
      positions: ``"rotary"``, or ``"learned"`` absolute ones.
      rope_theta, rope_scaling: base of the rotary frequencies, and their stretching.
      windows: of each layer the number of last positions it sees, None for all; empty: all see all.
      query_scale: factor of the attention scores; ``head_dim ** -0.5`` if None.
      attention_softcap, final_softcap: ``cap · tanh(x / cap)`` of attention scores and logits.
      embedding_scale: factor of the token embeddings.
      tied_head: logits are products with the token embeddings; otherwise there is ``head/kernel``.
      qkv_bias, output_bias, mlp_bias: which linear layers have a bias.
      scan_layers: leaves of all layers are stacked ``[L, ...]`` and layers run in a `jax.lax.scan`,
        which compiles in time independent of the depth.
      remat: recompute each layer in the backward pass instead of storing its activations.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_width: int
    context: int
    family: str = "llama"
    activation: Activation = "silu"
    gated_mlp: bool = True
    norm: Norm = "rms"
    norm_epsilon: float = 1e-5
    post_norms: bool = False
    positions: Positions = "rotary"
    rope_theta: float = 10_000.0
    rope_scaling: RotaryScaling | None = None
    windows: tuple[int | None, ...] = ()
    query_scale: float | None = None
    attention_softcap: float | None = None
    final_softcap: float | None = None
    embedding_scale: float = 1.0
    tied_head: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    scan_layers: bool = False
    remat: bool = False

    def __post_init__(self) -> None:
        for name in _SIZES:
            _check_size(name, getattr(self, name))
        if not 0 <= self.norm_epsilon < math.inf or not 0 < self.rope_theta < math.inf:
            raise ValueError(
                f"norm_epsilon is {self.norm_epsilon} and rope_theta {self.rope_theta}: they must "
                "be finite, the first at least 0, the second above 0"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} key-value heads evenly; "
                "make num_heads a multiple of num_kv_heads"
            )
        if self.positions == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need an even head_dim, not {self.head_dim}")
        if self.windows and len(self.windows) != self.num_layers:
            raise ValueError(
                f"{len(self.windows)} windows for {self.num_layers} layers; give one per layer"
            )

    @property
    def attention_scale(self) -> float:
        """``query_scale``, or what stands for None."""
        return self.head_dim**-0.5 if self.query_scale is None else self.query_scale

    def window(self, layer: int) -> int:
        """Returns how many last positions a query of ``layer`` sees, its own included."""
        window = self.windows[layer] if self.windows else None
        return self.context if window is None else min(window, self.context)


def tiny_llama(
    vocab_size: int,
    *,
    width: int = 192,
    num_layers: int = 6,
    num_heads: int = 6,
    num_kv_heads: int | None = None,
    mlp_width: int | None = None,
    context: int = 64,
    tied_head: bool = True,
) -> LanguageModelConfig:
    """Returns a small decoder of Llama's style, about 3 million parameters beside the embeddings.

    Args:
      vocab_size: tokens.
      width: of the residual stream; a multiple of ``2 · num_heads``.
      num_layers, num_heads, context: as in `LanguageModelConfig`.
      num_kv_heads: ``num_heads`` if None.
      mlp_width: ``8/3 · width`` rounded up to a multiple of 32 if None, as Llama does.
      tied_head: see `LanguageModelConfig`.

    Raises:
      ValueError: ``width`` does not divide into heads.
    """
    _check_size("num_heads", num_heads)
    if width % num_heads:
        raise ValueError(f"width {width} is no multiple of {num_heads} heads")
    return LanguageModelConfig(
        vocab_size=vocab_size,
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads if num_kv_heads is None else num_kv_heads,
        head_dim=width // num_heads,
        mlp_width=-(-8 * width // 96) * 32 if mlp_width is None else mlp_width,
        context=context,
        tied_head=tied_head,
    )


def layer_modules(config: LanguageModelConfig) -> tuple[str, ...]:
    """Returns the linear layers within one layer, ``"attention/query"`` to ``"mlp/down"``."""
    mlp = ("gate", "up", "down") if config.gated_mlp else ("up", "down")
    attention = ("query", "key", "value", "output")
    return tuple(f"attention/{name}" for name in attention) + tuple(f"mlp/{name}" for name in mlp)


def all_modules(config: LanguageModelConfig) -> tuple[str, ...]:
    """Returns the names of all linear layers; a tied head is an embedding and not among them."""
    layers = tuple(
        f"layers/{index}/{name}"
        for index in range(config.num_layers)
        for name in layer_modules(config)
    )
    return layers if config.tied_head else (*layers, "head")


def module_names(config: LanguageModelConfig, patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the linear layers that match at least one pattern, in the order of the network.

    Args:
      config: of the network.
      patterns: shell-style globs such as ``"layers/*/mlp/down"`` or ``"layers/[2-4]/mlp/*"``.

    Raises:
      ValueError: no pattern, or one that matches no layer; the message lists the layers there are.
    """
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    names = all_modules(config)
    idle = [p for p in patterns if not any(fnmatchcase(name, p) for name in names)]
    if idle or not patterns:
        raise ValueError(
            f"no module matches {', '.join(map(repr, idle)) or 'an empty list of patterns'}; "
            f"the modules are: {', '.join(names)}"
        )
    return tuple(name for name in names if any(fnmatchcase(name, p) for p in patterns))


def mlps_at_depth(config: LanguageModelConfig, depth: tuple[float, float]) -> tuple[str, ...]:
    """The last layers of the MLPs between two shares of a network's depth, one at least.

    Args:
      config: of the network.
      depth: layer ``i`` of ``L`` is among them if ``depth[0] ≤ i / L < depth[1]``.
    """
    count = config.num_layers
    begin, end = depth
    chosen = [i for i in range(count) if begin <= i / count < end]
    chosen = chosen or [min(int(begin * count), count - 1)]
    return tuple(f"layers/{index}/mlp/down" for index in chosen)
