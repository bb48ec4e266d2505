"""A policy for layers of any size: both sides of a weight matrix are rows of shared networks.

A layer ``[D, H]`` is a bipartite graph. Its ``D`` and ``H`` neurons carry features, and matrices
``[D, H]`` (weights, a gradient) say how strongly two of them are joined. Every row goes through the
same small network; rows hear of one another through sums over the edges and through means over a
side. Permuting neurons therefore permutes the action in the same way, and the parameters fit any
width and any number of layers (deep sets, Zaheer et al. 2017, arXiv 1703.06114; equivariant
networks on weights, Navon et al. 2023, arXiv 2301.12780).
"""

from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.agents.distributions import Gaussian
from modeledit_jax.types import Array, PyTree

EDGES = ("weights", "gradient")
_PER_WEIGHT_HIDDEN = 16

Action = Literal["low-rank", "per-weight"]


class EquivariantPolicy(nn.Module):
    """A Gaussian over matrices, one for every layer.

    The observation is a dictionary: ``context [F]``, and ``layers``, a tuple of dictionaries of
    ``inputs [D, I]``, ``outputs [H, O]`` and the matrices `EDGES` ``[D, H]``; ``D`` and ``H`` may
    differ between layers.

    Attributes:
      action: ``"low-rank"``: the action is, of each layer, the factors ``[D, R]`` and ``[H, R]``,
        as `modeledit_jax.edits.parametrization.LowRank` reads them. ``"per-weight"``: a matrix
        ``[D, H]`` of which every entry is a small network of the two neurons' factors and the
        entries of the `EDGES`, for edits that depend on single weights, such as masks.
      rank: ``R`` of the factors.
      hidden: width of a row.
      rounds: how often the two sides hear of each other.
      start_scale: standard deviation of the entries of a factor before any training, about.
      gradient: whether the reward's gradient by the weights is read; if not, only the weights are.
    """

    action: Action = "low-rank"
    rank: int = 4
    hidden: int = 32
    rounds: int = 2
    start_scale: float = 0.3
    gradient: bool = True

    @nn.compact
    def __call__(self, observation: PyTree) -> Gaussian:
        layers, context = observation["layers"], observation["context"]
        # Divided so that a sum over one side of a layer neither grows nor shrinks with its size.
        edges = [
            jnp.stack([layer[name] for name in self._edges()]) / layer["weights"].size ** 0.25
            for layer in layers
        ]
        inputs, outputs = (
            self._each(side, [layer[side] for layer in layers]) for side in ("inputs", "outputs")
        )
        for index in range(self.rounds):
            everyone = self._everyone(context, inputs, outputs, index)
            heard = [_along(e, v) for e, v in zip(edges, outputs, strict=True)]
            told = [_along(e.swapaxes(1, 2), u) for e, u in zip(edges, inputs, strict=True)]
            inputs, outputs = (
                self._each(f"{side}_{index}", _joined(rows, other, everyone), add=rows)
                for side, rows, other in (("inputs", inputs, heard), ("outputs", outputs, told))
            )
        mean = self._mean(layers, inputs, outputs)
        log_std = self.param("log_std", nn.initializers.zeros, ())
        return Gaussian(mean, jnp.broadcast_to(log_std, mean.shape))

    def _edges(self) -> tuple[str, ...]:
        return EDGES if self.gradient else EDGES[:1]

    def _each(
        self, name: str, rows: Sequence[Array], add: Sequence[Array] | None = None
    ) -> list[Array]:
        """``tanh(add + Dense(rows))`` of every layer, with one dense layer for all."""
        dense = nn.Dense(self.hidden, name=name)
        add = [jnp.zeros(())] * len(rows) if add is None else add
        return [jnp.tanh(x0 + dense(x)) for x0, x in zip(add, rows, strict=True)]

    def _everyone(
        self, context: Array, inputs: Sequence[Array], outputs: Sequence[Array], index: int
    ) -> Float[Array, " hidden"]:
        """What every row hears: the context, and means over all rows of a side."""
        means = [jnp.concatenate(rows).mean(0) for rows in (inputs, outputs)]
        joined = jnp.concatenate([context, *means])
        return jnp.tanh(nn.Dense(self.hidden, name=f"everyone_{index}")(joined))

    def _mean(
        self, layers: Sequence[PyTree], inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> Float[Array, " a"]:
        """The flat action; linear in the last rows and, past all squashing, in the features."""
        start = nn.initializers.variance_scaling(self.start_scale**2, "fan_in", "normal")
        left, right = (
            nn.Dense(self.rank, name=f"{side}_factor", use_bias=False, kernel_init=start)
            for side in ("inputs", "outputs")
        )
        factors = [
            (
                left(jnp.concatenate([u, layer["inputs"]], axis=1)),
                right(jnp.concatenate([v, layer["outputs"]], axis=1)),
            )
            for layer, u, v in zip(layers, inputs, outputs, strict=True)
        ]
        if self.action == "low-rank":
            return jnp.concatenate([side.ravel() for pair in factors for side in pair])
        hidden = nn.Dense(_PER_WEIGHT_HIDDEN, name="weight_hidden")
        last = nn.Dense(1, name="weight", use_bias=False, kernel_init=start)
        entries = [
            _entries([layer[name] for name in self._edges()], *pair)
            for layer, pair in zip(layers, factors, strict=True)
        ]
        return jnp.concatenate(
            [last(jnp.concatenate([jnp.tanh(hidden(x)), x], axis=-1)).ravel() for x in entries]
        )


_SMALLEST_WEIGHT = 0.05  # in units of the spread: smaller ones matter to nobody
_LARGEST_ENTRY = 3.0  # of what a single weight's network sees: a few weights are far out


def _entries(
    edges: Sequence[Float[Array, "d h"]], left: Float[Array, "d r"], right: Float[Array, "h r"]
) -> Float[Array, "d h f"]:
    """What the network of a single weight sees: products of factors, alone, with the weight's sign,
    and in units of the weight: by what share it would have to grow for the product to be added."""
    products = jnp.einsum("dr,hr->dhr", left, right)
    edge = jnp.stack(edges, axis=-1)
    weight = edge[..., :1]
    sign = jnp.where(weight < 0, -1.0, 1.0)
    share = products * sign / jnp.maximum(jnp.abs(weight), _SMALLEST_WEIGHT)
    joined = jnp.concatenate([products, products * sign, share, edge], axis=-1)
    return jnp.clip(joined, -_LARGEST_ENTRY, _LARGEST_ENTRY)


def _along(edges: Float[Array, "e d h"], rows: Float[Array, "h f"]) -> Float[Array, "d ef"]:
    """What every row of one side hears from the rows of the other along each kind of edge."""
    heard = jnp.einsum("edh,hf->def", edges, rows, precision=jax.lax.Precision.HIGHEST)
    return heard.reshape(heard.shape[0], -1)


def _joined(
    rows: Sequence[Array], heard: Sequence[Array], everyone: Float[Array, " hidden"]
) -> list[Array]:
    """Of every layer, what its rows are, hear of the other side, and hear of all."""
    return [
        jnp.concatenate([x, y, jnp.broadcast_to(everyone, (len(x), len(everyone)))], axis=1)
        for x, y in zip(rows, heard, strict=True)
    ]
