"""What a change of the weights is judged by: new answers learnt, everything else kept.

The reward of a step of RLEdit is the negative of `trajectory_loss`: the loss on the latest edits,
on the ``memory`` batches before them with weights that decay, and on questions that have nothing to
do with them. Source: RLEdit (ICML 2025), section 4.2, and ``editor/rledit.py:99-192``.
"""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.evaluation.knowledge import divergence, mean_log_probability
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels, squared_norms
from modeledit_jax.lifelong.parts_of_rows import by_parts
from modeledit_jax.types import Array


@dataclass(frozen=True)
class Objective:
    """Weights of the parts; the defaults are those of the released RLEdit.

    Attributes:
      memory: k, batches that count, the latest included (the paper's sum has one more).
      decay: μ, weight of a batch relative to the one after it.
      past: weight of all batches but the latest. What a change does to them it does to all edits
        before it, so on a long stream 1 (released) makes an editor that writes boldly and forgets.
      locality: weight of the divergence on locality prompts.
      size: η, weight of ``Σ ‖Δ‖²``. In the released code this part has no gradient.
      size_gradient: False keeps it so.
      reference: the network that answers about untouched facts are compared with, that before this
        step (released), or the one before all edits.
      minibatch: sum the losses of parts of so many facts, each the mean over its tokens, as the
        released code does; None: one mean over a batch.
      recompute: what the backward pass needs of each batch is computed again, so that memory does
        not grow with ``memory``; False: kept, a quarter less to compute.
      released_quirks: the backward pass of locality sees the weights from before the change
        (`Hook.stale`), and the size has no gradient. For parity alone.
    """

    memory: int = 10
    decay: float = 0.95
    past: float = 1.0
    locality: float = 0.6
    size: float = 1e-4
    size_gradient: bool = True
    reference: Literal["previous", "original"] = "previous"
    minibatch: int | None = None
    recompute: bool = True
    released_quirks: bool = False

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"memory must be at least 1 batch, the latest; got {self.memory}")
        if self.minibatch is not None and self.minibatch < 1:
            raise ValueError(f"minibatch={self.minibatch}: give at least 1, or None")


def answer_loss(
    logits: Float[Array, "n p v"], labels: Int[Array, "n p"], minibatch: int | None = None
) -> Float[Array, ""]:
    """Mean cross-entropy of the labeled tokens of a batch, all alike; 0 if there is none.

    With ``minibatch`` the sum of the means of its parts.
    """
    return -token_mean(mean_log_probability(logits, labels), labels, minibatch)


def token_mean(
    per_row: Float[Array, " n"], labels: Int[Array, "n p"], minibatch: int | None = None
) -> Float[Array, ""]:
    """Mean over the labeled tokens of what is a mean over those of each row; see `answer_loss`."""
    if len(labels) % (minibatch or len(labels)):
        raise ValueError(
            f"a batch of {len(labels)} facts has no parts of {minibatch}: the minibatch of the "
            "objective must divide it"
        )
    counts = (labels != IGNORED).sum(-1)
    counts, per_row = (x.reshape(-1, minibatch or len(x)) for x in (counts, per_row))
    return ((per_row * counts).sum(-1) / jnp.maximum(counts.sum(-1), 1)).sum()


def batch_loss(
    model: EditableModel,
    kernels: Kernels,
    changes: Changes,
    reference: Kernels,
    batch: FactBatch,
    objective: Objective,
) -> Float[Array, ""]:
    """Loss of rephrased prompts of one batch, and its weighted divergence on locality prompts."""
    local = changes
    if objective.released_quirks:
        local = {name: replace(hook, stale=True) for name, hook in changes.items()}

    def of_rows(rows: tuple[TokenBatch, TokenBatch]) -> tuple[Array, Array]:
        rephrase, locality = rows
        logits = model.answer_logits(kernels, rephrase, changes)
        before = jax.lax.stop_gradient(model.answer_logits(reference, locality))
        after = model.answer_logits(kernels, locality, local)
        return (
            mean_log_probability(logits, rephrase.answers),
            divergence(after, before, locality.answers),
        )

    learnt, lost = by_parts(of_rows, (batch.rephrase, batch.locality), model.rows_at_once)
    size = objective.minibatch
    return objective.locality * token_mean(lost, batch.locality.answers, size) - token_mean(
        learnt, batch.rephrase.answers, size
    )


def trajectory_loss(
    model: EditableModel,
    kernels: Kernels,
    changes: Changes,
    stream: FactBatch,
    step: Int[Array, ""],
    objective: Objective,
    first: int | Int[Array, ""] = 0,
) -> Float[Array, ""]:
    """Loss after the changes of one step of a trajectory.

    Batches of the past are computed one after another, and again for the gradient
    (`Objective.recompute`).

    Args:
      model: the network.
      kernels: before this step's changes.
      changes: of this step.
      stream: all batches, those of the trajectory among them, ``[S, n, ...]``.
      step: t, the number of the latest batch.
      objective: weights of the parts.
      first: number of the trajectory's first batch; earlier ones do not count.
    """
    reference = model.kernels() if objective.reference == "original" else kernels
    reference = jax.lax.stop_gradient(reference)

    def past(total: Array, age: Array) -> tuple[Array, None]:
        # Batches before the first have weight zero.
        batch = jax.tree.map(lambda leaf: leaf[jnp.maximum(step - age, first)], stream)
        value = batch_loss(model, kernels, changes, reference, batch, objective)
        weight = objective.decay ** age.astype(jnp.float32)
        weight = jnp.where(age == 0, weight, objective.past * weight)
        weight = jnp.where(age <= step - first, weight, 0.0)
        return total + weight * value, None

    one = jax.checkpoint(past) if objective.recompute else past
    total, _ = jax.lax.scan(one, jnp.zeros(()), jnp.arange(objective.memory))
    size = sum(squared_norms(changes).values(), jnp.zeros(()))
    if objective.released_quirks or not objective.size_gradient:
        size = jax.lax.stop_gradient(size)
    return total + objective.size * size
