"""Classification metrics of logits, weighted per example.

Every function takes logits with any leading axes, ``[..., N, C]``, against one set of labels
``[N]`` and weights ``[N]``: E candidate edits are judged against the same examples in one call.
Weights make fixed shapes possible (zero marks padding) and are never normalized by the caller.
Logits are read in float32 whatever their dtype. A single logit, C = 1, is that of class 1 against
class 0 (toxic or not): short for the two logits ``(0, z)``. Arrays whose shapes do not fit are
refused (ValueError), for they would be broadcast against each other.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from modeledit_jax.data.arrays import check_integers, check_shapes


def weighted_mean(
    values: Num[Array, "*batch n"] | Bool[Array, "*batch n"], weights: Num[Array, " n"]
) -> Float[Array, "*batch"]:
    """Weighted mean ``sum(w * v) / sum(w)`` over the last axis, accumulated in float32.

    An example of weight zero has no influence even if its value is not finite, so padding needs
    no valid contents. A set of zero total weight has no mean: the result is NaN, not zero, so
    that an empty set cannot pass for a perfectly forgotten one.

    Args:
      values: ``[..., N]`` of any real dtype or bool.
      weights: ``[N]``, non-negative.

    Returns:
      ``[...]`` float32.
    """
    check_shapes(values=(values, "... n"), weights=(weights, "n"))
    weights = weights.astype(jnp.float32)
    contributions = jnp.where(weights > 0, weights * values.astype(jnp.float32), 0.0)
    return jnp.sum(contributions, axis=-1) / jnp.sum(weights)


def accuracy(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"], weights: Num[Array, " n"]
) -> Float[Array, "*batch"]:
    """Fraction of examples whose largest logit is the label's, 0...1, higher is better.

    Ties go to the lowest class index and NaN counts as largest, as in `numpy.argmax`.

    Args:
      logits: ``[..., N, C]`` float.
      labels: ``[N]`` class indices.
      weights: ``[N]``, non-negative; zero total weight gives NaN.

    Returns:
      ``[...]`` float32.
    """
    return weighted_mean(correct(logits, labels), weights)


@jax.jit
def accuracies(
    logits: Float[Array, "*batch n c"],
    labels: Int[Array, " n"],
    weights: dict[str, Num[Array, " n"]],
) -> dict[str, Float[Array, "*batch"]]:
    """`accuracy` on each named set of examples, one program for all."""
    return {name: accuracy(logits, labels, own) for name, own in weights.items()}


def true_class_probability(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"], weights: Num[Array, " n"]
) -> Float[Array, "*batch"]:
    """Mean softmax probability of the label, ``mean p_y``, 0...1: accuracy made differentiable.

    Shapes as in `accuracy`.
    """
    return weighted_mean(true_class_probabilities(logits, labels), weights)


def cross_entropy(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"], weights: Num[Array, " n"]
) -> Float[Array, "*batch"]:
    """Mean negative log-likelihood of the label, ``mean -log p_y``, in nats; lower is better.

    Shapes as in `accuracy`.
    """
    _check(logits, labels, weights)
    return weighted_mean(-_label_log_probability(logits, labels), weights)


def correct(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"]
) -> Bool[Array, "*batch n"]:
    """Which examples `accuracy` counts: ``argmax(logits) == label``."""
    _check(logits, labels, None)
    logits, relative, own = _by_class(all_logits(logits), labels)
    before = relative < 0
    ahead = jnp.where(before, logits >= own, logits > own)
    ahead |= jnp.isnan(logits) & (before | ~jnp.isnan(own))
    known = (labels >= 0) & (labels < logits.shape[-2])
    return (jnp.sum(ahead, axis=-2) == 0) & known


def true_class_probabilities(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"]
) -> Float[Array, "*batch n"]:
    """Softmax probability of the label of every example, float32."""
    _check(logits, labels, None)
    logits, _, own = _by_class(all_logits(logits.astype(jnp.float32)), labels)
    # ``1 / Σ exp(z_c − z_y)`` needs no maximum. Where a class leads by 80 nats and more, 1e-35 is
    # the answer, so that the gradient is not zero times infinity.
    return 1.0 / jnp.sum(jnp.exp(jnp.minimum(logits - own, 80.0)), axis=-2)


def confusion_matrix(
    logits: Float[Array, "*batch n c"],
    labels: Int[Array, " n"],
    num_classes: int,
    weights: Num[Array, " n"] | None = None,
) -> Float[Array, "*batch classes classes"]:
    """Total weight of examples by true class (row) and predicted class (column).

    Args:
      logits: ``[..., N, C]`` float; the prediction is the first largest.
      labels: ``[N]`` class indices.
      num_classes: number of rows and columns, at least ``C``.
      weights: ``[N]``; None counts every example once.

    Returns:
      ``[..., num_classes, num_classes]`` float32, not normalized (counts are exact to 2^24).

    Raises:
      ValueError: if ``num_classes`` cannot hold every predicted class, or shapes do not fit.
    """
    _check(logits, labels, weights)
    if num_classes < logits.shape[-1]:
        raise ValueError(
            f"num_classes={num_classes} is less than the {logits.shape[-1]} logits per example; "
            "pass the number of logits"
        )
    true = jax.nn.one_hot(labels, num_classes)
    if weights is not None:
        true = true * weights.astype(jnp.float32)[:, None]
    predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1), num_classes)
    # Full precision: the accelerators' default would round the weights.
    return jnp.einsum("nt,...np->...tp", true, predicted, precision=jax.lax.Precision.HIGHEST)


def _check(logits: Array, labels: Array, weights: Array | None) -> None:
    """Raises ValueError unless shapes fit: arrays of other shapes would be broadcast."""
    check_shapes(logits=(logits, "... n c"), labels=(labels, "n"), weights=(weights, "n"))
    check_integers(labels=labels)


def all_logits(logits: Float[Array, "*batch n c"]) -> Float[Array, "*batch n classes"]:
    """The logits of all classes: a single one is joined by its silent partner, zero."""
    if logits.shape[-1] != 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=-1)


def _by_class(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"]
) -> tuple[Float[Array, "*batch c n"], Int[Array, "c n"], Float[Array, "*batch 1 n"]]:
    """The logits, their classes relative to the label (0 is the label) and the label's logit.

    A label that has no logit has NaN.

    The examples are last: a loop whose innermost axis were the few classes would be slow, and so
    would be a gather.
    """
    logits = jnp.swapaxes(logits, -1, -2)
    relative = jnp.arange(logits.shape[-2])[:, None] - labels
    own = jnp.sum(jnp.where(relative == 0, logits, 0.0), axis=-2, keepdims=True)
    known = (labels >= 0) & (labels < logits.shape[-2])
    return logits, relative, jnp.where(known, own, jnp.nan)


def _label_log_probability(
    logits: Float[Array, "*batch n c"], labels: Int[Array, " n"]
) -> Float[Array, "*batch n"]:
    """``log softmax(logits)[label]`` in float32."""
    logits, _, own = _by_class(all_logits(logits.astype(jnp.float32)), labels)
    return own[..., 0, :] - jax.nn.logsumexp(logits, axis=-2)


def margins(outputs: Float[Array, "n c"], label: Int[Array, " n"]) -> Float[Array, " n"]:
    """By how much the true class leads, in nats: its logit minus the log-sum-exp of the others.

    With a single logit, that of the class 1, it is the logit or, for the class 0, minus the logit.
    """
    check_shapes(outputs=(outputs, "n c"), label=(label, "n"))
    check_integers(label=label)
    if outputs.shape[-1] == 1:
        return jnp.where(label == 1, 1.0, -1.0) * outputs[:, 0]
    is_true = jax.nn.one_hot(label, outputs.shape[-1], dtype=bool)
    others = jax.nn.logsumexp(jnp.where(is_true, -jnp.inf, outputs), axis=-1)
    return jnp.sum(jnp.where(is_true, outputs, 0.0), axis=-1) - others
