"""What is asked of a model while it is edited, and once all edits are made.

Compiled once for all editors of a model: the number of edits made so far is an array, and edits
that are yet to come do not count.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.evaluation.edit_scores import (
    EditScores,
    probe_predictions,
    retention_by_age,
    score_edits,
    summarize,
)
from modeledit_jax.evaluation.knowledge import Predict, perplexity, recall, weight_growth
from modeledit_jax.language.model import apply
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.types import Array, Field

HEADLINE = ("efficacy", "generalization", "specificity", "retention")
"""The metrics of HiEdit's tables; their mean is ``overall``."""


@struct.dataclass
class FinalScores:
    """A model after all edits."""

    metrics: Field  # {name: ()}: what it can do besides, and how far its weights have gone
    ages: Field  # [G] mean age of groups of edits, in edits made since; oldest first
    retention: Field  # [G] mean efficacy of each group


def predict_with(model: EditableModel, kernels: Kernels) -> Predict:
    """The edited network as a function of tokens."""
    params = model.with_kernels(kernels)
    return lambda tokens, attention: apply(model.config, params, tokens, attention)[0]


@jax.jit
def unedited_answers(model: EditableModel, edits: FactBatch) -> Int[Array, "S n l"]:
    """What the network says on the probes before any edit."""
    return probe_predictions(predict_with(model, model.kernels()), edits)


@partial(jax.jit, static_argnames="first")
def score_stream(
    model: EditableModel,
    kernels: Kernels,
    edits: FactBatch,
    unedited: Int[Array, "S n l"],
    batches: Int[Array, ""],
    first: int,
) -> dict[str, Float[Array, ""]]:
    """Scores of the edits of the first batches: `edit_scores.summarize` and ``overall``.

    Args:
      model: the network.
      kernels: after ``batches`` batches.
      edits: all of them, ``[S, n, ...]``.
      unedited: of `unedited_answers`.
      batches: how many were made.
      first: edits that retention is measured on.
    """
    scores = _so_far(score_edits(predict_with(model, kernels), edits, unedited), batches)
    summary = summarize(scores, first)
    summary["overall"] = jnp.stack([summary[name] for name in HEADLINE]).mean()
    return summary


def _so_far(scores: EditScores, batches: Array) -> EditScores:
    made = jnp.arange(scores.real.shape[0]) < batches
    return scores.replace(real=scores.real & made[:, None])  # type: ignore[attr-defined]


@partial(jax.jit, static_argnames="groups")
def score_final(
    model: EditableModel,
    kernels: Kernels,
    edits: FactBatch,
    held_out: TokenBatch,
    untouched: TokenBatch,
    groups: int,
) -> FinalScores:
    """What remains to be asked after the last edit.

    Args:
      model, kernels, edits: as in `score_stream`.
      held_out: sentences ``[t, n, l]``.
      untouched: questions ``[t, n, l]`` that no edit concerns.
      groups: of edits by age, at most as many as batches.
    """
    predict = predict_with(model, kernels)
    scores = score_edits(predict, edits)
    ages, retention = retention_by_age(scores.efficacy.tokens, scores.real, groups)
    metrics = {
        "perplexity": perplexity(predict, held_out),
        "untouched_recall": recall(predict, untouched),
        **weight_growth(kernels, model.kernels()),
    }
    return FinalScores(metrics, ages, retention)
