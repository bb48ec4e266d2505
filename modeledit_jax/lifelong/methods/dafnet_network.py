"""DAFNet's network: attention among the tokens of a fact, then from fact to fact, old and new.

A token of a fact is the row [u, v] of one edited layer (`token_gradients`), of s = d_in + d_out
coordinates. The network turns rows into better ones, and says how much of a change each fact is
worth beside those before and after it: c of the facts of a call, p of all earlier changes. Between
two calls it keeps one representation of s coordinates for every fact, layer of the network and
edited module; nothing else is remembered.

Source: Zhang et al. 2024 (DAFNet, Findings of ACL), ``editors/dafnet/aux_model*.py`` of the public
code, whose arithmetic this is. The bias of the attention's keys is missing here: it adds the same
to all scores of a query, which a softmax does not see.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.lifelong.methods.hypernetwork import clamp
from modeledit_jax.lifelong.methods.linear import Linear, init_linear
from modeledit_jax.types import Array, Field, Key

_NEVER = -1e30  # a score that no softmax sees, finite for the sake of gradients
_NORM_EPSILON = 1e-5

_einsum = partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


@dataclass(frozen=True)
class DAFNetConfig:
    """Sizes of a network; the defaults are the released ones.

    Attributes:
      num_layers: in a row.
      inner_size: hidden units of the two MLPs within a fact.
      mlp_size: hidden units of the MLP after the attention.
      attention_size: of each head of the attention among facts.
      num_heads: of that.
      score_size: of each head of the attention that says what a fact is worth.
      num_score_heads: of that.
      edit_lr: initial learning rate of every module; training may turn its sign.
    """

    num_layers: int = 2
    inner_size: int = 1024
    mlp_size: int = 1536
    attention_size: int = 1024
    num_heads: int = 2
    score_size: int = 256
    num_score_heads: int = 2
    edit_lr: float = 1e-4

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "edit_lr" and value < 1:
                raise ValueError(f"{name}={value}: give at least 1")


@struct.dataclass
class FeedForward:
    """Two linear layers with a ReLU between them."""

    hidden: Field  # Linear
    output: Field  # Linear

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        return self.output(jax.nn.relu(self.hidden(x)))


@struct.dataclass
class LayerNorm:
    """Normalization of every row, with a scale and an offset."""

    scale: Field  # [s] float32
    offset: Field  # [s] float32

    def __call__(self, x: Float[Array, "n s"]) -> Float[Array, "n s"]:
        centered = x - x.mean(-1, keepdims=True)
        variance = jnp.square(centered).mean(-1, keepdims=True)
        return centered / jnp.sqrt(variance + _NORM_EPSILON) * self.scale + self.offset


@struct.dataclass
class AttentionScores:
    """What attention looks for, and where: h heads of d coordinates."""

    query: Field  # Linear [s, h · d]
    key: Field  # [s, h · d] float32


@struct.dataclass
class AttentionValues:
    """What attention takes, and what it makes of it."""

    value: Field  # Linear [s, h · d]
    output: Field  # Linear [h · d, s]


@struct.dataclass
class DAFNetLayer:
    """One layer for the ``m`` modules of a shape; in a network with a leading axis b."""

    tokens: Field  # FeedForward s → s, T₁ of the public code
    gate: Field  # FeedForward s → 1, T₂
    attention: Field  # AttentionScores of the attention among facts
    values: Field  # AttentionValues of it
    worth: Field  # AttentionScores of the attention that says what a fact is worth
    mlp: Field  # FeedForward s → s
    norms: Field  # three LayerNorm, stacked
    scale: Field  # [m, s] float32
    shift: Field  # [m, s] float32


@struct.dataclass
class DAFNetwork:
    """Everything that is learned for the ``m`` modules of one shape."""

    layers: Field  # DAFNetLayer, with a leading axis b
    lr: Field  # [m] float32


@struct.dataclass
class Transformed:
    """What a network makes of the tokens of one call."""

    rows: Field  # x [r, s]
    weights: Field  # c [n], what the change of each fact is worth
    retain: Field  # p (), what all earlier changes are worth
    representations: Field  # [b, n, s], to be remembered


def init_dafnet(key: Key, size: int, num_modules: int, config: DAFNetConfig) -> DAFNetwork:
    """Returns a network with PyTorch's initial weights.

    Args:
      key: consumed.
      size: s = d_in + d_out.
      num_modules: modules that share the network.
      config: its sizes.
    """
    heads, scored = (
        config.num_heads * config.attention_size,
        config.num_score_heads * config.score_size,
    )

    def layer(key: Key) -> DAFNetLayer:
        keys = iter(jax.random.split(key, 12))

        def linear(inputs: int, outputs: int) -> Linear:
            return init_linear(next(keys), inputs, outputs)

        def feed_forward(hidden: int, outputs: int) -> FeedForward:
            return FeedForward(linear(size, hidden), linear(hidden, outputs))

        ones = jnp.ones((num_modules, size))
        return DAFNetLayer(
            tokens=feed_forward(config.inner_size, size),
            gate=feed_forward(config.inner_size, 1),
            attention=AttentionScores(linear(size, heads), linear(size, heads).kernel),
            values=AttentionValues(linear(size, heads), linear(heads, size)),
            worth=AttentionScores(linear(size, scored), linear(size, scored).kernel),
            mlp=feed_forward(config.mlp_size, size),
            norms=LayerNorm(jnp.ones((3, size)), jnp.zeros((3, size))),
            scale=ones,
            shift=jnp.zeros_like(ones),
        )

    layers = jax.vmap(layer)(jax.random.split(key, config.num_layers))
    return DAFNetwork(layers, jnp.full(num_modules, config.edit_lr))


def apply_dafnet(
    network: DAFNetwork,
    rows: Float[Array, "r s"],
    belongs: Bool[Array, "n r"],
    real: Bool[Array, " n"],
    memory: Float[Array, "b N s"],
    remembered: Int[Array, ""],
    module: int | Int[Array, ""],
    config: DAFNetConfig,
    detach: bool = True,
) -> Transformed:
    """Returns the rows of one call made better, and what its facts are worth.

    Args:
      network: of the modules of this shape.
      rows: normalized; rows of no fact do not matter.
      belongs: which fact each row is a token of.
      real: facts that count.
      memory: representations of earlier facts.
      remembered: facts ever remembered, so that so many of ``memory`` count, at most all.
      module: index of the module among those that share the network.
      config: as at initialization.
      detach: no gradient through ``weights`` and ``retain`` (released), so that the attention they
        come from stays as it was drawn.
    """
    known = jnp.arange(memory.shape[1]) < remembered
    facts = jnp.arange(real.shape[0])
    earlier = (facts[None] < facts[:, None]) & real
    # Every fact sees itself, so that one that does not count has something to see.
    seen = earlier | (facts[None] == facts[:, None])
    allowed = jnp.concatenate([jnp.broadcast_to(known, (len(facts), len(known))), seen], axis=1)

    def step(x: Array, part: tuple[DAFNetLayer, Array]) -> tuple[Array, tuple[Array, ...]]:
        layer, past = part
        x, representations, own = _apply_layer(
            layer, x, belongs, allowed, jax.lax.stop_gradient(past), module, config
        )
        return x, (*edit_weights(own, real), representations)

    rows, (weights, retain, representations) = jax.lax.scan(step, rows, (network.layers, memory))
    # Of products in every layer the mean, not the products of means.
    weights, retain = weights.mean(0), retain.mean(0)
    if detach:
        weights, retain = jax.lax.stop_gradient((weights, retain))
    return Transformed(rows, weights, retain, jax.lax.stop_gradient(representations))


def edit_weights(
    own: Float[Array, " n"], real: Bool[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    """What every fact of a call is worth at its end, and what all before the call is.

    Fact after fact, a share s of the sum of changes is replaced: ``c_i = s_i Π_{j>i} (1 − s_j)``
    and ``p = Π_j (1 − s_j)``. With s = 1 the last fact alone is left, with s_t = 1/t their mean.

    Args:
      own: s, of each fact.
      real: facts that count; of the others s is 0.
    """
    share = jnp.where(real, own, 0.0)
    kept = jnp.cumprod(jnp.flip(1.0 - share))  # of the last, the last two, ...
    later = jnp.concatenate([jnp.flip(kept[:-1]), jnp.ones(1, kept.dtype)])
    return share * later, kept[-1]


def _apply_layer(
    layer: DAFNetLayer,
    x: Array,
    belongs: Array,
    allowed: Array,
    past: Array,
    module: int | Array,
    config: DAFNetConfig,
) -> tuple[Array, Array, Array]:
    """Rows after a layer, representations of the facts, and of each the weight on itself."""
    norms = [jax.tree.map(lambda leaf, index=index: leaf[index], layer.norms) for index in range(3)]
    inner = layer.tokens(x)
    gate = jnp.where(belongs, layer.gate(inner)[:, 0], _NEVER)
    gate = jnp.where(belongs, jax.nn.softmax(gate, axis=-1), 0.0)  # none for a fact without tokens
    representations = _einsum("nr,rs->ns", gate, inner)
    x = norms[0](x + gate.sum(0)[:, None] * inner)
    weights = _attend(layer.attention, representations, past, allowed, config.num_heads)
    outer = _mix(layer.values, weights, representations, past)
    x = norms[1](x + _einsum("nr,ns->rs", belongs.astype(x.dtype), outer))
    worth = _attend(layer.worth, representations, past, allowed, config.num_score_heads).mean(0)
    own = jnp.diagonal(worth, past.shape[0])
    x = norms[2](x + layer.mlp(x))
    return x + clamp(x * layer.scale[module] + layer.shift[module]), representations, own


def _attend(
    scores: AttentionScores, representations: Array, past: Array, allowed: Array, heads: int
) -> Array:
    """Weights ``[h, n, N + n]`` of the new representations on the past and on each other.

    Queries are taken through the keys' weights, so that the N representations of the past are read
    as they are and never projected: the same scores at n · h products of s instead of N · h · d.
    """
    query = scores.query(representations).reshape(len(representations), heads, -1)
    size = query.shape[-1]
    wanted = _einsum("nhd,shd->hns", query, scores.key.reshape(-1, heads, size)) / size**0.5
    both = [_einsum("hns,ms->hnm", wanted, known) for known in (past, representations)]
    return jax.nn.softmax(jnp.where(allowed, jnp.concatenate(both, axis=-1), _NEVER), axis=-1)


def _mix(values: AttentionValues, weights: Array, representations: Array, past: Array) -> Array:
    """What attention gives, ``[n, s]``; weights add up to one, so values may be made last."""
    heads = weights.shape[0]
    of_past, of_new = jnp.split(weights, [past.shape[0]], axis=-1)
    mixed = _einsum("hnm,ms->hns", of_past, past) + _einsum("hnm,ms->hns", of_new, representations)
    kernel = values.value.kernel.reshape(past.shape[-1], heads, -1)
    taken = _einsum("hns,shd->nhd", mixed, kernel).reshape(len(representations), -1)
    return values.output(taken + values.value.bias)


def store(
    memory: Float[Array, "... N s"],
    remembered: Int[Array, ""],
    representations: Float[Array, "... n s"],
    real: Bool[Array, " n"],
) -> Float[Array, "... N s"]:
    """Writes the representations of facts that count behind the others, over the oldest ones where
    there is no room left.

    Args:
      memory: room for N facts.
      remembered: facts ever remembered before.
      representations: of the facts of a call.
      real: those that count.
    """
    room = memory.shape[-2]
    rank = jnp.cumsum(real) - 1
    kept = real & (rank >= real.sum() - room)  # of more than there is room for, the last
    places = jnp.where(kept, (remembered + rank) % max(room, 1), room)
    return memory.at[..., places, :].set(representations, mode="drop")
