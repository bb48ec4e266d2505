"""What is asked of a model while it is edited, and once all edits are made.

Compiled once for all editors of a model: the number of edits made so far is an array, and edits
that are yet to come do not count.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.facts.questions import Questions
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.evaluation.edit_scores import predictions, score_edits, summarize
from modeledit_jax.evaluation.knowledge import (
    Predict,
    multiple_choice,
    perplexity,
    recall,
    weight_growth,
)
from modeledit_jax.lifelong.model import EditableModel, Kernels
from modeledit_jax.types import Array

HEADLINE = ("efficacy", "generalization", "specificity", "retention")
"""The metrics of HiEdit's tables."""

OVERALL = {
    "overall": HEADLINE,
    "overall_unedited": ("efficacy", "generalization", "specificity_unedited", "retention"),
}
"""Means of four, by name. The second one is for a pretrained model, which knows few of the facts it
is asked about: whether an answer stays what it was says more than whether it is true."""


def predict_with(model: EditableModel, kernels: Kernels) -> Predict:
    """The edited network as a function of tokens."""
    return partial(model.answer_logits, kernels)


@jax.jit
def unedited_answers(
    model: EditableModel, questions: tuple[Questions, ...]
) -> tuple[Int[Array, "_ _ _"], ...]:
    """What the network says before any edit."""
    return predictions(predict_with(model, model.kernels()), questions)


@partial(jax.jit, static_argnames="first")
def score_stream(
    model: EditableModel,
    kernels: Kernels,
    questions: tuple[Questions, ...],
    real: Bool[Array, "S n"],
    unedited: tuple[Int[Array, "_ _ _"], ...],
    batches: Int[Array, ""],
    first: int,
) -> tuple[dict[str, Float[Array, ""]], Float[Array, "S n"]]:
    """Scores of the edits of the first batches.

    Args:
      model: the network.
      kernels: after ``batches`` batches.
      questions: about all edits.
      real: rows of the stream that hold an edit.
      unedited: of `unedited_answers`, of each group ``[C, r, p]``.
      batches: how many were made.
      first: edits that retention is measured on.

    Returns:
      `edit_scores.summarize` and `OVERALL`, and the efficacy of each edit.
    """
    scores = score_edits(predict_with(model, kernels), questions, real, unedited, batches)
    summary = summarize(scores, first)
    for overall, names in OVERALL.items():
        summary[overall] = jnp.stack([summary[name] for name in names]).mean()
    return summary, scores.efficacy.tokens


@jax.jit
def score_besides(
    model: EditableModel,
    kernels: Kernels,
    held_out: TokenBatch,
    untouched: TokenBatch,
    known: TokenBatch | None = None,
    choices: TokenBatch | None = None,
) -> dict[str, Float[Array, ""]]:
    """What a model can do besides, and how far its weights have gone.

    Args:
      model, kernels: as in `score_stream`.
      held_out: sentences ``[t, n, l]``.
      untouched: questions ``[t, n, l]`` that no edit concerns.
      known: the same, of facts that the unedited model knows; None: they are not asked.
      choices: as `multiple_choice`; None: they are not asked.
    """
    predict = predict_with(model, kernels)
    found = {
        "perplexity": perplexity(predict, held_out),
        "untouched_recall": recall(predict, untouched),
    }
    if known is not None:
        found["known_recall"] = recall(predict, known)
    if choices is not None:
        found["multiple_choice"] = multiple_choice(predict, choices)
    return found | weight_growth(kernels, model.kernels())
