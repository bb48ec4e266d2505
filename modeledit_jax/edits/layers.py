"""The layers of any network: its weights in the order of use, and what they are before training."""

import jax
import jax.numpy as jnp

from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.edits.split_apply import split_apply
from modeledit_jax.types import Apply, Array, Key, Leaves, Params


def weight_paths(params: Params) -> tuple[str, ...]:
    """Paths of all weights: float leaves but for data, under ``batch_stats`` or ``buffers``."""
    leaves = zip(leaf_paths(params), jax.tree.leaves(params), strict=True)
    return tuple(path for path, leaf in leaves if _is_weight(path, leaf))


def layers_in_order(apply: Apply, params: Params, x: Array) -> tuple[tuple[str, ...], ...]:
    """Paths of the weights of every layer, the layers in the order in which they are used.

    A layer is what shares a path but for the last part (``fc2/kernel`` and ``fc2/bias``).

    Args:
      apply: of the network.
      params: likewise.
      x: inputs ``[N, ...]``; only the shape and dtype of one matter.
    """
    weights = weight_paths(params)
    used = split_apply(apply, params, x, weights).paths_in_order_of_use
    names = dict.fromkeys(layer_name(path) for path in used)
    return tuple(tuple(p for p in weights if layer_name(p) == name) for name in names)


def layer_name(path: str) -> str:
    """The path of a leaf's layer; paths of Flax NNX have one part more."""
    return path.removesuffix("/value").rpartition("/")[0]


def fresh_leaves(leaves: Leaves, key: Key) -> Leaves:
    """The leaves as Flax starts layers: kernels LeCun-normal, scales one, other vectors zero.

    Args:
      leaves: ``{path: array}``; those of two axes and more are kernels, whose last axis is the
        outputs.
      key: of the draws.
    """
    kernel = jax.nn.initializers.lecun_normal()
    fresh = {}
    for own, (path, leaf) in zip(jax.random.split(key, len(leaves)), leaves.items(), strict=True):
        if leaf.ndim > 1:
            fresh[path] = kernel(own, leaf.shape, leaf.dtype)
        else:
            # PyTorch calls scales "weight", as it does kernels.
            is_scale = "scale" in path.split("/")[-2:] or path.split("/")[-1] == "weight"
            fresh[path] = jnp.full_like(leaf, is_scale)
    return fresh


def _is_weight(path: str, leaf: object) -> bool:
    is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return bool(is_float) and {"batch_stats", "buffers"}.isdisjoint(path.split("/"))
