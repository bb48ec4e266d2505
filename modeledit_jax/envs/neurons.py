"""What a policy sees of a network that is to be edited: rows of numbers, one for every neuron.

An edited layer ``z = h W`` has two sides, the ``D`` neurons it reads and the ``H`` it feeds. Each
is described by statistics of its activity and of its influence on every evaluation set, in units
in which a layer twice as wide, or with weights twice as large, looks the same. In a set every
example counts by the probability of its true class: what is forgotten already asks for no further
edit, so that a request looks the same whatever was asked before. The rows have no order: a policy
that treats them alike (`modeledit_jax.agents.equivariant`) reads any network.

The statistics need one forward and backward pass over the examples of the reward role, and no
candidate edit is evaluated for them.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.edits.edit import spread
from modeledit_jax.evaluation.accuracy import margins
from modeledit_jax.types import Array, Leaves

Layer: TypeAlias = dict[str, Array]
"""``inputs [D, 3 S]``, ``outputs [H, 6 S]`` with ``S`` evaluation sets, ``weights [D, H]`` in units
of their spread and ``gradient [D, H]`` of the reward by them, in units of its own (where a layer is
used at several positions, with its mean activity: positions are not told apart)."""

Neurons: TypeAlias = dict[str, Array | tuple[Layer, ...]]
"""``layers``, one entry for every edited leaf, and ``context [2 S]``."""

Tapped: TypeAlias = Callable[[Leaves], tuple[Array, Leaves]]
"""``taps {path: [N, H]} -> outputs [N, C], inputs {path: [N, Q, D]}`` (`SplitApply.tapped`)."""

RIDGE = 0.01  # of the mean second moment: neurons that hardly ever fire must not decide
TINY = 1e-12


def observe_neurons(
    tapped: Tapped,
    score: Callable[[Array], Array],
    leaves: Leaves,
    original: Leaves,
    label: Int[Array, " n"],
    weights: Mapping[str, Float[Array, " n"]],
) -> Neurons:
    """Describes the layers of some leaves.

    Args:
      tapped: the network with these leaves on the examples of the reward role.
      score: ``outputs [N, C] -> score []``, the reward that is to be raised.
      leaves: current weights ``{path: [D, H]}``.
      original: unedited weights, whose spread is the unit of weights.
      label: of the examples.
      weights: evaluation sets, ``{name: [N]}``.

    Returns:
      See `Neurons`; layers in the order of ``leaves``.
    """
    count = label.shape[0]
    taps = {path: jnp.zeros((count, leaf.shape[-1])) for path, leaf in leaves.items()}
    outputs, pull_back, inputs = jax.vjp(tapped, taps, has_aux=True)
    margin, by_margin = jax.vjp(lambda out: margins(out, label), outputs)
    ones = jnp.ones(count)
    probability, by_probability = jax.vjp(jax.nn.sigmoid, margin)
    (margin_gradient,) = pull_back(*by_margin(ones))
    (probability_gradient,) = pull_back(*by_margin(*by_probability(ones)))
    (score_gradient,) = pull_back(jax.grad(score)(outputs))
    shares = jnp.stack([w / jnp.maximum(w.sum(), 1.0) for _, w in sorted(weights.items())])
    active = shares * probability  # what is still known of every set
    active /= active.sum(1, keepdims=True) + TINY
    confidence = jnp.abs(margin).mean() + TINY

    def layer(path: str) -> Layer:
        h = inputs[path]
        unit = spread(original[path])
        z = h @ leaves[path]
        typical = jnp.std(z, axis=(0, 1)).mean() + TINY  # the unit of z
        units = jnp.array([1.0, 1.0, typical / unit])[:, None, None]
        rows = _input_rows(h, active, shares.mean(0)) * units
        influence = (margin_gradient[path] * typical / confidence, probability_gradient[path])
        columns = _output_rows(z / typical, *influence, margin / confidence, active)
        gradient = jnp.einsum("nqd,nh->dh", h, score_gradient[path]) / h.shape[1]
        return {
            "inputs": rows.reshape(-1, rows.shape[-1]).T,
            "outputs": columns.reshape(-1, columns.shape[-1]).T,
            "weights": leaves[path] / unit,
            "gradient": gradient / (_root(jnp.mean(gradient**2)) + TINY),
        }

    context = jnp.concatenate([active @ margin / confidence, active @ probability])
    seen = {"context": context, "layers": tuple(layer(path) for path in leaves)}
    return jax.tree.map(lambda x: jnp.nan_to_num(jnp.clip(x, -BOUND, BOUND)), seen)


BOUND = 30.0
"""Entries are clipped here, so that a network that was edited to pieces still can be looked at."""


def _input_rows(
    h: Float[Array, "n q d"], shares: Float[Array, "s n"], everything: Float[Array, " n"]
) -> Float[Array, "3 s d"]:
    """Mean and spread of every neuron on every set, and the direction that tells the set apart.

    The direction answers 1 on the mean of the set and as little as possible, in mean square, on
    all sets: ``a = M⁻¹μ / μᵀM⁻¹μ`` with the second moment ``M``. It is what a rank-one change of
    the layer must read in order to leave the other sets alone. ``M`` weighs by ``everything``: what
    is forgotten is to be left alone too.
    """
    per_example = h.mean(1)
    mean = shares @ per_example
    second = jnp.einsum("sn,nqd->sd", shares, h**2) / h.shape[1]
    scale = _root(second.mean()) + TINY
    flat = h * jnp.sqrt(everything / h.shape[1])[:, None, None]
    moment = jnp.einsum("nqd,nqe->de", flat, flat)
    size = moment.shape[0]
    moment += (RIDGE * jnp.trace(moment) / size + TINY) * jnp.eye(size)
    direction = jax.scipy.linalg.solve(moment, mean.T, assume_a="pos").T
    response = jnp.sum(direction * mean, axis=1, keepdims=True)
    deviation = _root(second - mean**2)
    return jnp.stack([mean / scale, deviation / scale, direction / (response + TINY)])


def _output_rows(
    z: Float[Array, "n q h"],
    margin_gradient: Float[Array, "n h"],
    probability_gradient: Float[Array, "n h"],
    margin: Float[Array, " n"],
    shares: Float[Array, "s n"],
) -> Float[Array, "6 s h"]:
    """Activity of every neuron on every set, and what it does to the lead of the true class.

    The last two rows are the share of examples on which the neuron has any influence, and the
    Newton step: the change of the layer's outputs that would take away the lead, to first order.
    """
    mean = jnp.einsum("sn,nqh->sh", shares, z) / z.shape[1]
    second = jnp.einsum("sn,nqh->sh", shares, z**2) / z.shape[1]
    slope = shares @ margin_gradient
    soft = shares @ probability_gradient
    lead = jax.nn.relu(shares @ margin)[:, None]
    newton = -lead * slope / (jnp.sum(slope**2, axis=1, keepdims=True) + TINY)
    return jnp.stack(
        [
            mean,
            _root(second - mean**2),
            slope,
            soft / (_root(jnp.mean(soft**2, axis=1, keepdims=True)) + TINY),
            shares @ (margin_gradient != 0).astype(jnp.float32),
            newton,
        ]
    )


def _root(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Square root; 0, with gradient 0, where rounding has left nothing or less."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
