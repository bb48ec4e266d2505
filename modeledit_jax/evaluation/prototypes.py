"""What hidden layers still know of a class: nearest class means of a few labeled examples.

Outputs can hide a class that the layers before them tell apart as well as ever. A probe of one or
five examples a class shows it, where a probe that is trained on many would learn the class anew
(in the manner of the prototypical relearning attack, arXiv 2506.01318).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.evaluation.accuracy import weighted_mean


def draw_shots(
    label: Int[np.ndarray, " n"], shots: int, draws: int, seed: int
) -> Int[np.ndarray, "draws c shots"]:
    """Rows of ``shots`` examples of every class, without replacement in a class.

    Args:
      label: of the examples to draw from; classes are ``0 … max``.
      shots: at least 1.
      draws: how often.
      seed: the same for all networks that are compared.

    Raises:
      ValueError: a class with fewer examples than shots.
    """
    rng, classes = np.random.default_rng(seed), np.arange(label.max() + 1)
    rows = [np.flatnonzero(label == c) for c in classes]
    if few := [int(c) for c, own in zip(classes, rows, strict=True) if len(own) < shots]:
        raise ValueError(
            f"class {few[0]} has {len(rows[few[0]])} examples, {shots} are drawn of each: ask for "
            "fewer shots"
        )
    chosen = [[rng.choice(own, shots, replace=False) for own in rows] for _ in range(draws)]
    return np.array(chosen)


def prototype_recall(
    support: Float[Array, "m d"],
    rows: Int[Array, "draws c shots"],
    query: Float[Array, "n d"],
    label: Int[Array, " n"],
    weights: Num[Array, " n"],
) -> Float[Array, ""]:
    """Share of a set whose nearest class mean is its own, mean over draws.

    Metric card:
        *Direction*: none of its own; its gap to Retrain's is to be zero. Above: the class is still
        there. Below: it has been erased beyond what a network that never saw it shows.
        *Reading*: 1 / C is chance. A network that never saw a class tells it apart to some extent,
        so the absolute value says little.
        *Source*: Snell et al. 2017 (*Prototypical Networks*), Euclidean; see the module.

    Args:
      support: features of the examples that are drawn from.
      rows: of ``support``, by draw and class (`draw_shots`).
      query: features of the examples to classify.
      label: theirs.
      weights: membership of the set.
    """
    check_shapes(support=(support, "m d"), query=(query, "n d"), label=(label, "n"))

    def recall(rows: Array) -> Array:
        means = support[rows].mean(axis=1)
        # ‖q − m‖² without ‖q‖², which all classes share.
        distance = jnp.square(means).sum(axis=1) - 2.0 * query @ means.T
        return weighted_mean(distance.argmin(axis=1) == label, weights)

    return jax.lax.map(recall, rows).mean()
