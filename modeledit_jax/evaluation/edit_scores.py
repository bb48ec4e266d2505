"""Scores of a sequence of edits, edit by edit, after all of them have been made.

`score_edits` asks the final model about every fact that was edited on the way. Its rows stand in
the order of the edits, so how well the first ones are remembered, and how memory fades with age,
are means over parts of the same arrays.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.data.facts.tokens import TokenBatch
from modeledit_jax.evaluation.knowledge import (
    Predict,
    agreement,
    check_same_shape,
    exact_match,
    mean_over,
    prefers_by_probability,
    prefers_by_token,
    token_accuracy,
)
from modeledit_jax.types import Array, Field

STREAMS = ("efficacy", "generalization", "specificity")
"""Questions: the edit prompt, a rephrased one, a probe that the edit must not reach."""


@struct.dataclass
class AnswerScores:
    """One of `STREAMS`; all fields [S, n] float32, 0 where there is no record."""

    tokens: Field  # share of the answer's tokens (`token_accuracy`)
    exact: Field  # the whole answer (`exact_match`)
    by_token: Field | None  # preferred to the rival answer (`prefers_by_token`); None: no rival
    by_probability: Field | None  # the same (`prefers_by_probability`)


@struct.dataclass
class EditScores:
    """Scores of ``S`` batches of ``n`` edits under one model."""

    efficacy: AnswerScores  # the edit prompt gives the new answer, not the old one
    generalization: AnswerScores  # so does another prompt
    specificity: AnswerScores  # a probe gives the true answer, not the new one
    unchanged: Field | None  # [S, n] float32: `agreement` with the unedited model on the probe
    real: Field  # [S, n] bool: rows that hold a record


def probe_predictions(predict: Predict, edits: FactBatch) -> Int[Array, "S n l"]:
    """Most probable tokens of a model on the probes, the ``unedited`` of `score_edits`."""

    def tokens(batch: TokenBatch) -> Array:
        return jnp.argmax(predict(batch.tokens, batch.attention), axis=-1).astype(jnp.int32)

    return jax.lax.map(tokens, edits.locality)


def score_edits(
    predict: Predict, edits: FactBatch, unedited: Int[Array, "S n l"] | None = None
) -> EditScores:
    """Scores all edits under one model, one batch after another.

    Args:
      predict: the model, usually after all edits.
      edits: ``[S, n, ...]`` in the order in which they were made.
      unedited: `probe_predictions` of the model before the first edit; None leaves out
        `EditScores.unchanged`.
    """

    def score(part: tuple[FactBatch, Array | None]) -> EditScores:
        batch, before = part
        specificity, logits = _score_stream(predict, batch.locality, batch.locality_new)
        return EditScores(
            efficacy=_score_stream(predict, batch.edit, batch.edit_old)[0],
            generalization=_score_stream(predict, batch.rephrase, batch.rephrase_old)[0],
            specificity=specificity,
            unchanged=None if before is None else agreement(logits, before, batch.locality.labels),
            real=batch.real,
        )

    return jax.lax.map(score, (edits, unedited))


def _score_stream(
    predict: Predict, wanted: TokenBatch, rival: TokenBatch | None
) -> tuple[AnswerScores, Array]:
    logits = predict(wanted.tokens, wanted.attention)
    by_token = by_probability = None
    if rival is not None:
        rival_logits = predict(rival.tokens, rival.attention)
        by_token = prefers_by_token(logits, wanted.labels, rival.labels)
        by_probability = prefers_by_probability(logits, wanted.labels, rival_logits, rival.labels)
    return AnswerScores(
        tokens=token_accuracy(logits, wanted.labels),
        exact=exact_match(logits, wanted.labels),
        by_token=by_token,
        by_probability=by_probability,
    ), logits


def summarize(scores: EditScores, first: int = 500) -> dict[str, Float[Array, ""]]:
    """Means over all edits, by name.

    Args:
      scores: of the whole sequence.
      first: edits from the start of the sequence that ``retention`` is the mean of (HiEdit's
        ``Pre_ES`` with its default 500); all of them if there are fewer.

    Returns:
      ``efficacy``, ``generalization``, ``specificity`` (shares of tokens), each with ``_exact``
      and, where there are rival answers, ``_by_token`` and ``_by_probability``;
      ``specificity_unedited``; ``retention`` and ``retention_exact``.
    """
    summary: dict[str, Array] = {}
    for stream in STREAMS:
        answers: AnswerScores = getattr(scores, stream)
        summary[stream] = mean_over(answers.tokens, scores.real)
        for kind in ("exact", "by_token", "by_probability"):
            values = getattr(answers, kind)
            if values is not None:
                summary[f"{stream}_{kind}"] = mean_over(values, scores.real)
    if scores.unchanged is not None:
        summary["specificity_unedited"] = mean_over(scores.unchanged, scores.real)
    summary["retention"] = retention_first(scores.efficacy.tokens, scores.real, first)
    summary["retention_exact"] = retention_first(scores.efficacy.exact, scores.real, first)
    return summary


def retention_first(
    values: Float[Array, "S n"], real: Bool[Array, "S n"], first: int
) -> Float[Array, ""]:
    """Mean over the ``first`` edits of a sequence, measured after its end.

    Raises:
      ValueError: ``first`` is not positive.
    """
    if first < 1:
        raise ValueError(f"first={first}: retention is a mean over at least one edit")
    check_same_shape(values=values, real=real)
    early = jnp.cumsum(real.reshape(-1)).reshape(real.shape) <= first
    return mean_over(values, real & early)


def retention_by_age(
    values: Float[Array, "S n"], real: Bool[Array, "S n"], groups: int = 10
) -> tuple[Float[Array, " groups"], Float[Array, " groups"]]:
    """Mean over edits of like age, measured after the end of the sequence.

    The batches are cut into ``groups`` runs as equal as can be.

    Returns:
      Mean age of each group, in edits made since (youngest 0), and mean value; oldest group first.

    Raises:
      ValueError: there are fewer batches than groups.
    """
    batches = values.shape[0]
    if not 1 <= groups <= batches:
        raise ValueError(f"groups={groups} of {batches} batches of edits: choose 1…{batches}")
    check_same_shape(values=values, real=real)
    group = jnp.arange(batches) * groups // batches
    later = jnp.cumsum(real.sum(axis=1)[::-1])[::-1] - real.sum(axis=1)
    counts = jax.ops.segment_sum(real.sum(axis=1), group, groups)
    ages = jax.ops.segment_sum(later * real.sum(axis=1), group, groups)
    totals = jax.ops.segment_sum(jnp.where(real, values, 0.0).sum(axis=1), group, groups)
    return ages / counts, totals / counts
