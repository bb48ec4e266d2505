"""Networks that turn the gradient of an edit into a better one: MALMEN's, RLEdit's and MEND's.

A linear layer with input u [d_in] and gradient v [d_out] of the loss with respect to its output has
the rank-one gradient u vᵀ for every token. Such a network maps (u, v) to pseudo-keys and
pseudo-values (ũ, ṽ), from which `shift` makes a change of the weights. All edited modules of one
shape share a network; each has its own scale and shift in every block, its own learning rate, and
its own logarithm of the ridge. Sources: Mitchell et al. 2022 (MEND, arXiv 2110.11309), Tan et al.
2024 (MALMEN, arXiv 2311.04661), RLEdit (ICML 2025, ``nets.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.lifelong.methods.normalization import FLOAT32_EPSILON, RunningMoments
from modeledit_jax.types import Array, Field, Key


@dataclass(frozen=True)
class HypernetworkConfig:
    """Size and kind of the networks; the defaults are those of the released RLEdit.

    Attributes:
      rank: of the two factors of a block, at most the number of coordinates.
      num_blocks: blocks in a row (MEND: ``n_hidden + 1``).
      edit_lr: initial learning rate of every module.
      scale_first: scale and shift a block before the clamp as MEND does, not after it as MALMEN.
    """

    rank: int = 1024
    num_blocks: int = 4
    edit_lr: float = 1e-6
    scale_first: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.num_blocks < 1:
            raise ValueError(
                f"rank and num_blocks must be at least 1, got {self.rank} and {self.num_blocks}"
            )


def mend_config(variant: Literal["original", "rledit"] = "original") -> HypernetworkConfig:
    """Returns the configuration of MEND as its authors or as RLEdit's repository released it.

    The latter is MALMEN's network in MEND's size.
    """
    if variant == "original":
        return HypernetworkConfig(rank=1920, num_blocks=2, edit_lr=1e-4, scale_first=True)
    return HypernetworkConfig(rank=1920, num_blocks=2)


@struct.dataclass
class Block:
    """Parameters of the residual blocks; s = d_in + d_out coordinates, m modules of this shape."""

    down: Field  # [b, s, r] float32, standard normal at first (MALMEN's A, MEND's vᵀ)
    up: Field  # [b, r, s] float32, zero at first (MALMEN's B, MEND's uᵀ): a block is the identity
    bias: Field  # [b, s] float32
    scale: Field  # [b, m, s] float32
    shift: Field  # [b, m, s] float32


@struct.dataclass
class Hypernetwork:
    """Everything that is learned for the ``m`` modules of one shape."""

    blocks: Field  # Block, whose leading axis b runs over the blocks
    lr: Field  # [m] float32
    lamda: Field  # [m] float32, logarithm of the ridge of the normal equation


@struct.dataclass
class Trainable:
    """What is trained of an editor."""

    networks: Field  # {group: Hypernetwork}; empty for UltraEdit
    router: Field = None  # Router of HiEdit, or None


@struct.dataclass
class HyperState:
    """What an editor has learned, and what it counts from batch to batch."""

    learned: Field  # Trainable
    statistics: Field  # {group: RunningMoments}


def group_name(d_in: int, d_out: int) -> str:
    """Returns the name of the group of modules with kernels ``[d_in, d_out]``, as ``"32x48"``."""
    return f"{d_in}x{d_out}"


def group_modules(shapes: Mapping[str, tuple[int, int]]) -> dict[str, tuple[str, ...]]:
    """Returns the modules that share a network, in the order of ``shapes``.

    Args:
      shapes: ``(d_in, d_out)`` of every edited module, in the order of their embeddings.
    """
    groups: dict[str, tuple[str, ...]] = {}
    for module, shape in shapes.items():
        groups[group_name(*shape)] = (*groups.get(group_name(*shape), ()), module)
    return groups


def init_hypernetwork(
    key: Key, size: int, num_modules: int, config: HypernetworkConfig
) -> Hypernetwork:
    """Returns a network that leaves its normalized input as it is.

    Args:
      key: consumed.
      size: s = d_in + d_out.
      num_modules: modules that share the network.
      config: its kind.
    """
    depth, rank = config.num_blocks, min(config.rank, size)
    ones = jnp.ones((depth, num_modules, size))
    blocks = Block(
        down=jax.random.normal(key, (depth, size, rank)),
        up=jnp.zeros((depth, rank, size)),
        bias=jnp.zeros((depth, size)),
        scale=ones,
        shift=jnp.zeros_like(ones),
    )
    return Hypernetwork(blocks, jnp.full(num_modules, config.edit_lr), jnp.zeros(num_modules))


def init_hypernetworks(
    key: Key, shapes: Mapping[str, tuple[int, int]], config: HypernetworkConfig
) -> dict[str, Hypernetwork]:
    """Returns one network for each group of `group_modules`."""
    sizes = {group_name(*shape): sum(shape) for shape in shapes.values()}
    return {
        name: init_hypernetwork(jax.random.fold_in(key, index), sizes[name], len(modules), config)
        for index, (name, modules) in enumerate(group_modules(shapes).items())
    }


def init_statistics(
    shapes: Mapping[str, tuple[int, int]],
    released: bool = False,
    epsilon: float = FLOAT32_EPSILON,
    dtype: type = jnp.float32,
) -> dict[str, RunningMoments]:
    """Returns empty statistics for each group of `group_modules`; see `RunningMoments.create`."""
    return {
        group_name(*shape): RunningMoments.create(sum(shape), released, epsilon, dtype)
        for shape in shapes.values()
    }


def update_statistics(
    statistics: Mapping[str, RunningMoments],
    groups: Mapping[str, tuple[str, ...]],
    keys: Mapping[str, Array],
    values: Mapping[str, Array],
    mask: Bool[Array, " n"] | None = None,
) -> dict[str, RunningMoments]:
    """Takes the rows of every module into the statistics of its group, module by module.

    Args:
      statistics: by group; see `init_statistics`.
      groups: of `group_modules`.
      keys: u ``[n, d_in]`` by module.
      values: v ``[n, d_out]`` by module.
      mask: rows that count; all if None.
    """
    updated = dict(statistics)
    for group, modules in groups.items():
        for module in modules:
            rows = jnp.concatenate([keys[module], values[module]], axis=-1)
            updated[group] = updated[group].update(rows, mask)
    return updated


def apply_hypernetwork(
    network: Hypernetwork,
    statistics: RunningMoments,
    keys: Float[Array, "n d_in"],
    values: Float[Array, "n d_out"],
    module: int | Int[Array, ""],
    config: HypernetworkConfig,
) -> tuple[Float[Array, "n d_in"], Float[Array, "n d_out"]]:
    """Returns the pseudo-keys ũ ``[n, d_in]`` and pseudo-values ṽ ``[n, d_out]``.

    Args:
      network: of the group the module belongs to.
      statistics: of that group, over rows ``[u, v]``.
      keys: u, inputs of the layer at some tokens.
      values: v, gradients of the loss with respect to its outputs there.
      module: index of the module within its group.
      config: as at initialization.
    """
    x = statistics.normalize(jnp.concatenate([keys, values], axis=-1))

    def step(x: Array, block: Block) -> tuple[Array, None]:
        return _apply_block(block, x, module, config.scale_first), None

    x, _ = jax.lax.scan(step, x, network.blocks)
    pseudo_keys, pseudo_values = jnp.split(x, [keys.shape[-1]], axis=-1)
    return pseudo_keys, pseudo_values


def clamp(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``max(x, 0)`` with gradient 1 at 0, as in PyTorch's ``clamp``.

    A fresh network has zeros before every clamp; with the gradient 0 of `jax.nn.relu` it would
    never learn.
    """
    return jnp.where(x >= 0, x, jnp.zeros_like(x))


def _apply_block(block: Block, x: Array, module: int | Array, scale_first: bool) -> Array:
    highest = jax.lax.Precision.HIGHEST
    y = jnp.matmul(jnp.matmul(x, block.down, precision=highest), block.up, precision=highest)
    y = y + block.bias
    scale, shift = block.scale[module], block.shift[module]
    if scale_first:
        return x + clamp(y * scale + shift)
    return x + scale * clamp(y) + shift


def nonzero_rows(
    keys: Float[Array, "*n d_in"], values: Float[Array, "*n d_out"]
) -> Bool[Array, "*n"]:
    """Returns the tokens that MEND keeps: those where neither u nor v is zero throughout."""
    return (keys != 0).any(-1) & (values != 0).any(-1)
