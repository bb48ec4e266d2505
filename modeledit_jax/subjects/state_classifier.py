"""A toxicity classifier with the last linear module of the language model under it.

What a classifier reads, the mean over a text's tokens of the residual stream after a layer, is
``r + a W``: ``a`` are the pooled inputs of the layer's ``mlp/down``, ``W`` its kernel, and ``r``
what the stream was before (`language.text_states`). Nothing below depends on ``W``. So an edit of
the language model itself is an edit of this network, exactly, and every classifier that reads the
states has the edited model under it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from modeledit_jax.subjects.fixed_array import FixedArray
from modeledit_jax.subjects.image_classifiers import dense_layers
from modeledit_jax.types import Array

MODEL = "language_model"
"""Name of the part of the parameters that belongs to the language model."""

KERNEL = f"{MODEL}/down/kernel"
"""Path of its kernel, that of ``mlp/down`` of the last layer that is run."""


class _Layer(nn.Module):
    """``a W``, with a kernel that starts as that of the language model."""

    kernel: FixedArray

    @nn.compact
    def __call__(self, inputs: Float[Array, "n mlp_width"]) -> Float[Array, "n width"]:
        _, width = self.kernel.values.shape
        start = nn.initializers.constant(jnp.asarray(self.kernel.values))
        return nn.Dense(width, use_bias=False, kernel_init=start, name="down")(inputs)


class StateClassifier(nn.Module):
    """``[r, a]`` to ``(r + a W) · scale``, and then ``fc1``, ``fc2``, ``head``.

    Attributes:
      kernel: ``W [mlp_width, width]`` of the language model.
      scale: ``[width]``, what states are multiplied by (`views.with_layer`, which has brought ``r``
        to that scale and the states to mean 0).
      hidden: widths of the classifier's layers.
      trains_model: False: ``W`` gets no gradient, for the training of a classifier.
    """

    kernel: FixedArray
    scale: FixedArray
    hidden: tuple[int, ...] = (128, 32)
    trains_model: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "n width_and_mlp_width"]) -> Float[Array, "n 1"]:
        width = len(self.scale.values)
        below, inputs = x[:, :width], x[:, width:]
        said = _Layer(self.kernel, name=MODEL)(inputs)
        if not self.trains_model:
            said = jax.lax.stop_gradient(said)
        return dense_layers(below + said * jnp.asarray(self.scale.values), self.hidden, 1)
