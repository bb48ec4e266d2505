"""HiEdit's high-level network: from the rows of a batch to one score per module.

Every module's rows (u, v) are encoded by a linear layer that all modules of its shape share, a
clamp, and a scale and offset of its own; the codes of all modules stand side by side, are averaged
over the tokens, and a linear gate gives the scores. `selection` turns scores into the modules to
edit. Source: HiEdit (arXiv 2604.11214), ``HiNet`` in ``nets.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from modeledit_jax import struct
from modeledit_jax.lifelong.methods.hypernetwork import clamp, group_modules, group_name
from modeledit_jax.lifelong.methods.linear import init_linear
from modeledit_jax.lifelong.methods.normalization import FLOAT32_EPSILON, RunningMoments
from modeledit_jax.types import Array, Field, Key

Shapes = Mapping[str, tuple[int, int]]
"""``(d_in, d_out)`` of every edited module, in the order of the scores."""


@dataclass(frozen=True)
class RouterConfig:
    """What a router looks like.

    Attributes:
      hidden_size: of a module's code.
      learn_count: also score how many modules to edit.
      released_quirks: use the released normalizer, which is never updated: it divides the rows by
        1.2e-7, and the scores reach a million.
    """

    hidden_size: int = 256
    learn_count: bool = False
    released_quirks: bool = False


@struct.dataclass
class Encoder:
    """Shared by the ``m`` modules of one shape; s = d_in + d_out."""

    linear: Field  # Linear [s, h]
    scale: Field  # [m, h] float32
    offset: Field  # [m, h] float32

    def __call__(self, rows: Float[Array, "n s"], module: int) -> Float[Array, "n h"]:
        return self.scale[module] * clamp(self.linear(rows)) + self.offset[module]


@struct.dataclass
class Router:
    """Everything that is learned, for M modules."""

    encoders: Field  # {group: Encoder}
    gate: Field  # Linear [M · h, M]
    count: Field = None  # Linear [M · h, M] or None


@struct.dataclass
class Scores:
    """What a router says of a batch."""

    modules: Field  # [M] float32, in the order of the shapes
    count: Field = None  # [M] float32, of editing 1 … M modules; None if that is not learned


def init_router(key: Key, shapes: Shapes, config: RouterConfig) -> Router:
    """Returns a router with PyTorch's initial weights (uniform within ±1/√inputs)."""
    groups = group_modules(shapes)
    gate_key, count_key, *keys = jax.random.split(key, len(groups) + 2)
    hidden, modules = config.hidden_size, len(shapes)
    sizes = {group_name(*shape): sum(shape) for shape in shapes.values()}
    encoders = {}
    for (group, members), encoder_key in zip(groups.items(), keys, strict=True):
        ones = jnp.ones((len(members), hidden))
        linear = init_linear(encoder_key, sizes[group], hidden)
        encoders[group] = Encoder(linear, ones, jnp.zeros_like(ones))
    gate = init_linear(gate_key, hidden * modules, modules)
    count = init_linear(count_key, hidden * modules, modules) if config.learn_count else None
    return Router(encoders, gate, count)


def apply_router(
    router: Router,
    shapes: Shapes,
    statistics: Mapping[str, RunningMoments],
    keys: Mapping[str, Array],
    values: Mapping[str, Array],
    config: RouterConfig,
    mask: Bool[Array, " n"] | None = None,
) -> Scores:
    """Returns the scores of a batch.

    Args:
      router: its parameters.
      shapes: as at initialization.
      statistics: by group, of rows ``[u, v]``; those of the hypernetworks will do. Not looked at
        with ``released_quirks``.
      keys: u ``[n, d_in]`` by module.
      values: v ``[n, d_out]`` by module.
      config: as at initialization.
      mask: rows that count; all if None.
    """
    codes = encode_modules(router, shapes, statistics, keys, values, config)
    if mask is None:
        pooled = codes.mean(axis=0)
    else:
        pooled = jnp.where(mask[:, None], codes, 0).sum(axis=0) / jnp.maximum(mask.sum(), 1)
    return Scores(router.gate(pooled), None if router.count is None else router.count(pooled))


def encode_modules(
    router: Router,
    shapes: Shapes,
    statistics: Mapping[str, RunningMoments],
    keys: Mapping[str, Array],
    values: Mapping[str, Array],
    config: RouterConfig,
) -> Float[Array, "n codes"]:
    """Returns the codes of all modules side by side, ``[n, M · h]``; see `apply_router`."""
    groups = group_modules(shapes)
    codes = []
    for module, shape in shapes.items():
        group = group_name(*shape)
        rows = jnp.concatenate([keys[module], values[module]], axis=-1)
        if config.released_quirks:
            rows = rows / FLOAT32_EPSILON
        else:
            rows = statistics[group].normalize(rows)
        codes.append(router.encoders[group](rows, groups[group].index(module)))
    return jnp.concatenate(codes, axis=-1)
