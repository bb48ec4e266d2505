"""Scores of a sequence of edits, edit by edit, after all of them have been made.

`score_edits` asks the final model about every fact that was edited on the way. Its rows stand in
the order of the edits, so how well the first ones are remembered, and how memory fades with age,
are means over parts of the same arrays.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax import struct
from modeledit_jax.data.facts.questions import Questions
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


def predictions(predict: Predict, questions: Sequence[Questions]) -> tuple[Array, ...]:
    """Most probable tokens of a model where answers are, the ``unedited`` of `score_edits`.

    Returns:
      Of each group ``[C, r, p]`` int32.
    """

    def tokens(batch: TokenBatch) -> Array:
        return jnp.argmax(predict(batch), axis=-1).astype(jnp.int32)

    return tuple(jax.lax.map(tokens, group.wanted) for group in questions)


def score_edits(
    predict: Predict,
    questions: Sequence[Questions],
    real: Bool[Array, "S n"],
    unedited: Sequence[Int[Array, "_ _ _"]] | None = None,
    batches: Int[Array, ""] | None = None,
) -> EditScores:
    """Scores edits under one model.

    Args:
      predict: the model, usually after all edits.
      questions: `group_questions` of the stream.
      real: `FactBatch.real` of the stream.
      unedited: `predictions` of the model before the first edit; None leaves out
        `EditScores.unchanged`.
      batches: how many were made; the rest is not asked about and does not count. None: all.
    """
    edits = real.size
    made = jnp.int32(edits) if batches is None else batches * real.shape[1]
    names = ["tokens", "exact"]
    names += ["by_token", "by_probability"] if questions[0].rival is not None else []
    names += [] if unedited is None else ["unchanged"]
    found = {name: jnp.zeros(3 * edits, jnp.float32) for name in names}
    for index, group in enumerate(questions):
        before = None if unedited is None else unedited[index]
        found = _score_group(predict, group, before, made, found)
    kinds = {name: values.reshape(3, *real.shape) for name, values in found.items()}
    by_kind = [
        AnswerScores(
            tokens=kinds["tokens"][kind],
            exact=kinds["exact"][kind],
            by_token=kinds["by_token"][kind] if "by_token" in kinds else None,
            by_probability=kinds["by_probability"][kind] if "by_probability" in kinds else None,
        )
        for kind in range(3)
    ]
    counted = real & (jnp.arange(edits).reshape(real.shape) < made)
    unchanged = kinds["unchanged"][2] if unedited is not None else None
    efficacy, generalization, specificity = by_kind
    return EditScores(efficacy, generalization, specificity, unchanged, counted)


def _score_group(
    predict: Predict,
    group: Questions,
    unedited: Array | None,
    made: Array,
    found: dict[str, Array],
) -> dict[str, Array]:
    """Writes the scores of a group, chunk after chunk, to their places."""

    def step(index: Array, found: dict[str, Array]) -> dict[str, Array]:
        chunk, before = jax.tree.map(lambda leaf: leaf[index], (group, unedited))
        scores = score_rows(predict, chunk, before)
        return {name: found[name].at[chunk.place].set(scores[name], mode="drop") for name in found}

    return jax.lax.fori_loop(0, (group.first < made).sum(), step, found)


def score_rows(
    predict: Predict, chunk: Questions, unedited: Array | None
) -> dict[str, Float[Array, " r"]]:
    """Scores by name of one chunk of questions ``[r, l]``; see `score_edits`."""
    wanted, rival = chunk.wanted, chunk.rival
    rows, labels = len(wanted.tokens), wanted.answers
    if rival is None or chunk.one_row:
        logits = rival_logits = predict(wanted)
    else:
        both = predict(jax.tree.map(_beside, wanted, rival))
        logits, rival_logits = both[:rows], both[rows:]
    scores = {"tokens": token_accuracy(logits, labels), "exact": exact_match(logits, labels)}
    if rival is not None:
        rivals = rival.answers  # answers to one prompt begin at one place
        scores["by_token"] = prefers_by_token(logits, labels, rivals)
        scores["by_probability"] = prefers_by_probability(logits, labels, rival_logits, rivals)
    if unedited is not None:
        scores["unchanged"] = agreement(logits, unedited, labels)
    return scores


def _beside(wanted: Array, rival: Array) -> Array:
    return jnp.concatenate([wanted, rival])


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
