"""Metrics of unlearning: how close an edited network comes to one retrained without the data.

Each docstring is a metric card: what is measured, which direction is good, how to read the
number, and where it was defined. Output metrics of class forgetting are saturated by masking
one logit, so they are always read beside that baseline and a second retraining.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Num

from modeledit_jax.data.arrays import check_shapes
from modeledit_jax.evaluation.accuracy import weighted_mean
from modeledit_jax.types import Leaves

TUG_OF_WAR_METRICS = ("forget_accuracy_train", "retain_accuracy_train", "retain_accuracy_test")
"""The three accuracies of RUM's score. For class forgetting, test accuracy means the accuracy on
test examples of the retained classes: a retrained network cannot know the forgotten one."""


def tow(
    metrics: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike],
    names: Sequence[str] = TUG_OF_WAR_METRICS,
) -> Array:
    """Tug-of-War score: ``prod over names of (1 - |accuracy - accuracy of Retrain|)``.

    Metric card:
        *Direction*: higher is better; 1 = behaves like a network retrained without the data.
        *Reading*: forgetting too little, forgetting too much and damage elsewhere all lower it.
        Compare with the score of a second retraining (the noise floor), not with 1.
        *Blind to*: anything that accuracy cannot see; masking a logit scores like retraining.
        *Source*: Zhao et al. 2024, "What makes unlearning hard and what to do about it" (RUM;
        NeurIPS 2024), where the three sets are forget, retain and test.

    Args:
      metrics: accuracies of the edited network, fractions 0...1, of any broadcastable shapes.
      reference: the same of the retrained network.
      names: the metrics to multiply.

    Returns:
      float32 of the broadcast shape, 0...1.

    Raises:
      ValueError: if a name is absent, or none is given.
    """
    if not names:
        raise ValueError("Tug-of-War needs at least one metric name")
    for label, table in (("metrics", metrics), ("reference", reference)):
        missing = [name for name in names if name not in table]
        if missing:
            raise ValueError(f"{label} lacks {missing}; it has {sorted(table)}: pass names=...")
    score = jnp.float32(1.0)
    for name in names:
        gap = jnp.asarray(metrics[name], jnp.float32) - jnp.asarray(reference[name], jnp.float32)
        score = score * (1.0 - jnp.abs(gap))
    return score


def total_variation(
    logits_a: Float[Array, "*batch n c"],
    logits_b: Float[Array, "*#batch n c"],
    weights: Num[Array, " n"],
) -> Float[Array, "*batch"]:
    """Mean total-variation distance of two networks' predictions, ``mean ½ Σ_c |p_a - p_b|``.

    Metric card:
        *Direction*: lower is better when the second network is Retrain (on forgotten and on
        retained examples alike) and, on retained examples, when it is the original.
        *Reading*: the largest difference in probability the two give any event, 0...1. Two
        retrainings differ too, most of all on the forgotten class: compare with that floor.
        *Source*: standard; preferred to the ZRF score of Chundawat et al. 2023, whose value as
        published in code depends on the number of classes.

    Args:
      logits_a: ``[..., N, C]`` float.
      logits_b: ``[..., N, C]`` float, broadcast against ``logits_a``.
      weights: ``[N]``, non-negative; zero total weight gives NaN.

    Returns:
      ``[...]`` float32.

    Raises:
      ValueError: shapes do not fit.
    """
    check_shapes(
        logits_a=(logits_a, "... n c"), logits_b=(logits_b, "... n c"), weights=(weights, "n")
    )
    p_a = jax.nn.softmax(logits_a.astype(jnp.float32), axis=-1)
    p_b = jax.nn.softmax(logits_b.astype(jnp.float32), axis=-1)
    return weighted_mean(0.5 * jnp.sum(jnp.abs(p_a - p_b), axis=-1), weights)


def relative_edit_size(base: Leaves, edited: Leaves) -> Float[Array, ""]:
    """Frobenius norm of the whole edit over the norm of the unedited leaves.

    Metric card:
        *Direction*: lower is better at equal behavior.
        *Reading*: 0 = no edit, 1 = the change is as large as the edited leaves themselves.
        *Source*: standard.

    Args:
      base: edited leaves before the edit, ``{path: array}``.
      edited: the same leaves after it, of the same shapes.

    Returns:
      float32 scalar; if every base leaf is zero, inf, or NaN for no edit.

    Raises:
      ValueError: if the two do not have the same leaves and shapes, or have none.
    """
    if not base or base.keys() != edited.keys():
        raise ValueError(
            f"base has leaves {sorted(base)} and edited has {sorted(edited)}; "
            "pass the same edited leaves before and after the edit"
        )
    for path, leaf in base.items():
        if leaf.shape != edited[path].shape:
            raise ValueError(
                f"leaf {path!r} has shape {leaf.shape} in base and {edited[path].shape} in "
                "edited; pass leaves of one network"
            )
    change = [edited[path].astype(jnp.float32) - leaf for path, leaf in base.items()]
    return _norm(change) / _norm(list(base.values()))


def numerical_rank(
    matrix_difference: Float[Array, "*batch d h"], tolerance: float = 1e-4
) -> Int[Array, "*batch"]:
    """Number of singular values above ``tolerance`` times the largest.

    Metric card:
        *Direction*: none; tells which family an edit belongs to.
        *Reading*: a rank-r shift has rank r, a mask or a gradient method usually full rank.
        *Source*: standard (Golub & Van Loan, *Matrix Computations*).

    The default tolerance lies above the rounding noise of ``edited - base`` in float32, about
    1e-5 of the largest singular value for an edit a thousand times smaller than the weights.

    Args:
      matrix_difference: ``[..., D, H]``, edited minus base.
      tolerance: fraction of the largest singular value, 0 <= tolerance < 1.

    Returns:
      ``[...]`` int32; 0 for the zero matrix and for one that is not finite.

    Raises:
      ValueError: if the tolerance is outside its range.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance={tolerance} must lie in [0, 1)")
    check_shapes(matrix_difference=(matrix_difference, "... d h"))
    values = jnp.linalg.svd(matrix_difference.astype(jnp.float32), compute_uv=False)
    # Strictly above, so that the zero matrix (whose threshold is zero) counts none.
    return jnp.sum(values > tolerance * values[..., :1], axis=-1, dtype=jnp.int32)


def _norm(leaves: Sequence[Array]) -> Float[Array, ""]:
    """Euclidean norm of all entries of all leaves, float32."""
    squares = [jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in leaves]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))
