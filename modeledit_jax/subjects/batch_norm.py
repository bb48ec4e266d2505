"""Batch normalization of networks that are edited in evaluation mode.

In evaluation mode batch normalization is a scale and a shift of every channel, by the mean and
variance of the training examples. A trained network here has these folded into its own ``scale``
and ``bias``: the same function, without statistics that an edit could change by mistake, and one
example's output never depends on another's.

While a network is trained, batches are normalized by their own statistics. Those of the population
are computed once, with the final weights, and not as a running average over weights that are gone
("PreciseBN", Wu & Johnson 2021, *Rethinking "Batch" in BatchNorm*, arXiv 2105.07576, section 3).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Num

from modeledit_jax.types import Array, Params

STATISTICS = "batch_stats"
"""Collection of the means and variances of a batch, ``{layer: {"mean": [C], "var": [C]}}``."""

EPSILON = 1e-5  # added to variances, as in PyTorch

Forward = Callable[[Params, Array, Array], tuple[Array, Params]]
"""``(params, x [n, ...], presence [n]) -> (logits [n, C], statistics)``."""


class BatchNorm(nn.Module):
    """``x · scale + bias`` for every channel; in training of the normalized ``x``."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "n ... c"], presence: Float[Array, " n"] | None = None
    ) -> Float[Array, "n ... c"]:
        """Normalizes in training mode, which ``presence`` asks for.

        Args:
          x: a batch, channels last.
          presence: 0 for examples that the statistics leave out, 1 for the others; None: the
            evaluation mode.
        """
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        if presence is not None:
            mean, var = _moments(x, presence)
            for name, value in (("mean", mean), ("var", var)):
                self.sow(STATISTICS, name, value, reduce_fn=lambda _, new: new)
            x = (x - mean) * jax.lax.rsqrt(var + EPSILON)
        return x * scale + bias


def _moments(
    x: Float[Array, "n ... c"], presence: Float[Array, " n"]
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and (biased) variance of every channel over the examples that are present."""
    axes = tuple(range(x.ndim - 1))
    weights = jnp.broadcast_to(presence.reshape(-1, *(1,) * (x.ndim - 1)), (*x.shape[:-1], 1))
    # A batch that happens to hold no example of weight must not divide by zero.
    weights = weights / jnp.maximum(weights.sum(), 1.0)
    mean = (weights * x).sum(axes)
    return mean, (weights * (x - mean) ** 2).sum(axes)


def training_mode(module: nn.Module) -> Forward:
    """The forward pass of a module while it is trained.

    Args:
      module: one whose attribute ``batch_normalized`` is true takes a second argument, ``presence``
        (see `BatchNorm`); any other module is run as it is, and has no statistics.
    """

    def plain(params: Params, x: Array, presence: Array) -> tuple[Any, Params]:
        return module.apply({"params": params}, x), {}

    def normalized(params: Params, x: Array, presence: Array) -> tuple[Any, Params]:
        variables = {"params": params}
        logits, updated = module.apply(variables, x, presence, mutable=[STATISTICS])
        return logits, updated[STATISTICS]

    return normalized if getattr(module, "batch_normalized", False) else plain


def evaluation_mode(
    forward: Forward,
    params: Params,
    x: Num[Array, "n ..."],
    presence: Float[Array, " n"],
    batches: Int[Array, "steps b"],
) -> Params:
    """The trained parameters with the statistics of the population folded in.

    Args:
      forward: of `training_mode`.
      params: after training.
      x: the examples.
      presence: of each.
      batches: the rows of each batch; in an order that mixes the classes.

    Returns:
      Parameters of the same structure; ``params`` itself for a module without statistics.
    """

    def statistics(rows: Array) -> Params:
        return forward(params, x[rows], presence[rows])[1]

    if not jax.tree.leaves(jax.eval_shape(statistics, batches[0])):
        return params
    present = presence[batches].sum(axis=1)
    share = present / jnp.maximum(present.sum(), 1.0)
    return _fold(params, jax.lax.map(statistics, batches), share)


def _fold(params: Any, batches: Any, share: Float[Array, " steps"]) -> Any:
    """``scale`` and ``bias`` of every normalization, with its statistics ``[steps, C]``."""
    if "mean" not in batches:
        return {**params} | {name: _fold(params[name], batches[name], share) for name in batches}
    mean = share @ batches["mean"]
    var = share @ (batches["var"] + (batches["mean"] - mean) ** 2)
    scale = params["scale"] * jax.lax.rsqrt(var + EPSILON)
    return {"scale": scale, "bias": params["bias"] - mean * scale}
