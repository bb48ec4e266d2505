"""What a change of the weights is judged by: new answers learnt, everything else kept.

The reward of a step of RLEdit is the negative of `trajectory_loss`: the loss on the latest edits,
on the ``memory`` batches before them with weights that decay, and on questions that have nothing to
do with them. Source: RLEdit (ICML 2025), section 4.2, and ``editor/rledit.py:99-192``.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.data.facts import FactBatch
from modeledit_jax.data.tokens import IGNORED
from modeledit_jax.evaluation.knowledge import divergence, mean_log_probability
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, squared_norms
from modeledit_jax.types import Array


@dataclass(frozen=True)
class Objective:
    """Weights of the parts; the defaults are those of the released RLEdit.

    Attributes:
      memory: k, batches that count, the latest included (the paper's sum has one more).
      decay: μ, weight of a batch relative to the one after it.
      locality: weight of the divergence on locality prompts.
      size: η, weight of ``Σ ‖Δ‖²``. In the released code this part has no gradient.
      size_gradient: False keeps it so.
      reference: the network that answers about untouched facts are compared with, that before this
        step (released), or the one before all edits.
    """

    memory: int = 10
    decay: float = 0.95
    locality: float = 0.6
    size: float = 1e-4
    size_gradient: bool = True
    reference: Literal["previous", "original"] = "previous"

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1 batch, the latest; got {self.memory}")


def answer_loss(logits: Float[Array, "n l v"], labels: Int[Array, "n l"]) -> Float[Array, ""]:
    """Mean cross-entropy of the labelled tokens of a batch, all alike; 0 if there is none."""
    return -_token_mean(mean_log_probability(logits, labels), labels)


def locality_loss(
    logits: Float[Array, "n l v"], reference: Float[Array, "n l v"], labels: Int[Array, "n l"]
) -> Float[Array, ""]:
    """Mean of ``KL(reference ‖ present)`` over the labelled tokens; 0 if there is none."""
    return _token_mean(divergence(logits, reference, labels), labels)


def _token_mean(per_row: Float[Array, " n"], labels: Int[Array, "n l"]) -> Float[Array, ""]:
    counts = (labels != IGNORED).sum(-1)
    return (per_row * counts).sum() / jnp.maximum(counts.sum(), 1)


def batch_loss(
    model: EditableModel,
    kernels: Kernels,
    changes: Changes,
    reference: Kernels,
    batch: FactBatch,
    locality: float,
) -> Float[Array, ""]:
    """Loss of rephrased prompts of one batch, and its weighted divergence on locality prompts."""
    learnt = answer_loss(model.logits(kernels, batch.rephrase, changes), batch.rephrase.labels)
    before = jax.lax.stop_gradient(model.logits(reference, batch.locality))
    after = model.logits(kernels, batch.locality, changes)
    return learnt + locality * locality_loss(after, before, batch.locality.labels)


def trajectory_loss(
    model: EditableModel,
    kernels: Kernels,
    changes: Changes,
    stream: FactBatch,
    step: Int[Array, ""],
    objective: Objective,
) -> Float[Array, ""]:
    """Loss after the changes of one step of a trajectory.

    Batches of the past are computed one after another and again for the gradient, so memory does
    not grow with ``objective.memory``.

    Args:
      model: the network.
      kernels: before this step's changes.
      changes: of this step.
      stream: all batches of the trajectory, ``[T, n, ...]``.
      step: t, the number of the latest batch.
      objective: weights of the parts.
    """
    reference = model.kernels() if objective.reference == "original" else kernels
    reference = jax.lax.stop_gradient(reference)

    @jax.checkpoint
    def past(total: Array, age: Array) -> tuple[Array, None]:
        # Batches before the first have weight zero.
        batch = jax.tree.map(lambda leaf: leaf[jnp.maximum(step - age, 0)], stream)
        own = batch_loss(model, kernels, changes, reference, batch, objective.locality)
        weight = jnp.where(age <= step, objective.decay ** age.astype(jnp.float32), 0.0)
        return total + weight * own, None

    total, _ = jax.lax.scan(past, jnp.zeros(()), jnp.arange(objective.memory))
    size = sum(squared_norms(changes).values(), jnp.zeros(()))
    return total + objective.size * (
        size if objective.size_gradient else jax.lax.stop_gradient(size)
    )
