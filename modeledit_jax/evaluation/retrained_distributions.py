"""Many unlearned networks against many retrained ones, example by example.

One network tells little of an example: two trainings differ. With several of both kinds, what is
compared is the distribution of an example's margin (`evaluation.accuracy.margins`) over networks.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.evaluation.accuracy import weighted_mean

LARGEST_MARGIN = 100.0


def klom(
    unlearned: Float[Array, "s n"],
    retrained: Float[Array, "t n"],
    weights: Num[Array, " n"],
    *,
    bins: int = 20,
    smoothing: float = 1e-5,
) -> Float[Array, ""]:
    """KL divergence of margins: mean ``KL(unlearned ‖ retrained)`` of binned margins, in nats.

    Metric card:
        *Direction*: lower is better; 0 = as retrained.
        *Reading*: with few networks histograms rarely overlap and the value is near
        ``−log smoothing``: compare with that of other retrained networks, as many of them.
        *Source*: Georgiev et al. 2024 (*Attribute-to-Delete*, arXiv 2410.23232).

    Args:
      unlearned: margins of ``S`` unlearned networks on ``N`` examples.
      retrained: of ``T`` retrained ones.
      weights: membership of the set; the mean is over it.
      bins: equal ones, of the range of both at an example.
      smoothing: added to the share of every bin.
    """
    check_shapes(unlearned=(unlearned, "s n"), retrained=(retrained, "t n"), weights=(weights, "n"))
    bounds = (-LARGEST_MARGIN, LARGEST_MARGIN)

    def one(a: Array, b: Array) -> Array:
        a, b = (jnp.clip(values, *bounds) for values in (a, b))
        low, high = (f(jnp.concatenate([a, b])) for f in (jnp.min, jnp.max))

        def shares(values: Array) -> Array:
            unit = (values - low) / jnp.maximum(high - low, 1e-12)
            at = jnp.clip((unit * bins).astype(jnp.int32), 0, bins - 1)
            share = jax.nn.one_hot(at, bins).mean(axis=0) + smoothing
            return share / share.sum()

        p, q = shares(a), shares(b)
        return jnp.sum(p * jnp.log(p / q))

    return weighted_mean(jax.vmap(one, (1, 1))(unlearned, retrained), weights)


def likelihood_ratio_auc(
    unlearned: Float[Array, "s n"], retrained: Float[Array, "t n"], weights: Num[Array, " n"]
) -> Float[Array, ""]:
    """How well an attacker tells unlearned from retrained networks by an example's margin.

    Metric card:
        *Direction*: none; 0.5 = they cannot be told apart, 1 = always.
        *Reading*: networks are judged by Gaussians that were fitted without them, so that those of
        one kind against each other give 0.5 or, where they are few, a little less.
        *Source*: U-LiRA (Hayes et al. 2024, arXiv 2403.01218), with leave-one-out in place of
        held-out shadow networks.

    Args:
      unlearned: margins of ``S ≥ 3`` unlearned networks on ``N`` examples.
      retrained: of ``T ≥ 3`` retrained ones.
      weights: membership of the set; the mean of the examples' AUCs is over it.

    Raises:
      ValueError: fewer than three networks of a kind.
    """
    check_shapes(unlearned=(unlearned, "s n"), retrained=(retrained, "t n"), weights=(weights, "n"))
    if min(len(unlearned), len(retrained)) < 3:
        raise ValueError(
            f"{len(unlearned)} unlearned and {len(retrained)} retrained networks: a spread needs "
            "three of each"
        )

    def density(x: Array, sample: Array, kept: Bool[Array, " s"]) -> Array:
        share = kept / kept.sum()
        mean = share @ sample
        variance = jnp.maximum(share @ jnp.square(sample - mean), 1e-6)
        return -0.5 * (jnp.square(x - mean) / variance + jnp.log(variance))

    def one(a: Array, b: Array) -> Array:
        def scores(values: Array, own: Array, other: Array, sign: float) -> Array:
            without = ~jnp.eye(len(own), dtype=bool)
            every = jnp.ones(len(other), bool)
            mine = jax.vmap(density, (0, None, 0))(values, own, without)
            theirs = jax.vmap(density, (0, None, None))(values, other, every)
            return sign * (mine - theirs)

        of_a, of_b = scores(a, a, b, 1.0), scores(b, b, a, -1.0)
        above = (of_a[:, None] > of_b).mean() + 0.5 * (of_a[:, None] == of_b).mean()
        return above

    return weighted_mean(jax.vmap(one, (1, 1))(unlearned, retrained), weights)
