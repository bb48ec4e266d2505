"""Success of one answer under a language model: pure functions of logits and labels.

Labels are pre-shifted (`TokenBatch`): ``labels[..., j]`` is predicted by ``logits[..., j, :]``, and
`IGNORED` where nothing is. Every function gives one number per row; rows without labels, which fill
up a batch, give 0 and are left out by `mean_over`. `knowledge_cards` says what each number means.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from modeledit_jax.data.arrays import check_integers, check_shapes
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.evaluation.accuracy import weighted_mean
from modeledit_jax.types import Array, Params

Predict: TypeAlias = Callable[[TokenBatch], Array]
"""``predict(batch [n, l]) -> logits [n, p, v]`` at the places of ``batch.answers``, pure; the token
after a place and all later ones must not count."""

Logits: TypeAlias = Float[Array, "*rows l v"]
Labels: TypeAlias = Int[Array, "*rows l"]
PerRow: TypeAlias = Float[Array, "*rows"]


def mean_over(values: PerRow, counted: Bool[Array, "*rows"]) -> Float[Array, ""]:
    """Mean of the values that count; NaN if none does."""
    check_same_shape(values=values, counted=counted)
    return weighted_mean(values.reshape(-1), counted.reshape(-1).astype(jnp.float32))


def token_accuracy(logits: Logits, labels: Labels) -> PerRow:
    """Share of an answer's tokens that are the most probable one, given those before them.

    MEND, MALMEN and RLEdit call the mean over rows efficacy (edit prompt), generalization
    (rephrased) and specificity (locality prompt, true answer).
    """
    check_answers(logits, labels=labels)
    return _share(jnp.argmax(logits, axis=-1) == labels, labels != IGNORED)


def exact_match(logits: Logits, labels: Labels) -> PerRow:
    """1 if every token of the answer is the most probable one, given those before it.

    This is whether greedy decoding gives the answer: as long as it does, its input is that of
    teacher forcing, and with the first token that differs both fail.
    """
    check_answers(logits, labels=labels)
    scored = labels != IGNORED
    right = ((jnp.argmax(logits, axis=-1) == labels) | ~scored).all(axis=-1)
    return (right & scored.any(axis=-1)).astype(jnp.float32)


def agreement(logits: Logits, unedited: Int[Array, "*rows l"], labels: Labels) -> PerRow:
    """Share of an answer's positions where the most probable token is the unedited model's.

    Args:
      logits: of the edited model.
      unedited: most probable token at every position under the unedited model, same inputs.
      labels: tell which positions are looked at.
    """
    check_answers(logits, unedited=unedited, labels=labels)
    return _share(jnp.argmax(logits, axis=-1) == unedited, labels != IGNORED)


def prefers_by_token(logits: Logits, labels: Labels, rivals: Labels) -> PerRow:
    """Share of positions where an answer's token has a larger logit than its rival's.

    RLEdit's and HiEdit's convention on CounterFact (``succ_ratios``): the input is the prompt with
    ``labels``' answer, also where the rival is judged, and the longer answer is cut. Positions
    where both have a token count. (RLEdit fills up a shorter rival with token 0 and so counts
    further positions, against a token that nobody proposed; the published numbers contain this.)
    A token that both answers share cannot win.
    """
    check_answers(logits, labels=labels, rivals=rivals)
    both = (labels != IGNORED) & (rivals != IGNORED)
    wins = _logit(logits, labels) > _logit(logits, rivals)
    return _share(wins, both)


def prefers_by_probability(
    logits: Logits, labels: Labels, rival_logits: Logits, rivals: Labels
) -> PerRow:
    """1 if an answer has the larger mean log-probability per token than its rival.

    MEMIT's and ROME's convention on CounterFact: either answer follows the prompt in an input of
    its own, and the sums of log-probabilities are divided by the numbers of tokens. A tie is 0.
    """
    check_answers(logits, labels=labels)
    check_answers(rival_logits, rivals=rivals)
    scored = (labels != IGNORED).any(axis=-1)
    wins = mean_log_probability(logits, labels) > mean_log_probability(rival_logits, rivals)
    return (wins & scored).astype(jnp.float32)


def mean_log_probability(logits: Logits, labels: Labels) -> PerRow:
    """Log-probability of an answer, divided by its number of tokens."""
    check_answers(logits, labels=labels)
    logits = logits.astype(jnp.float32)
    log_probability = _logit(logits, labels) - jax.nn.logsumexp(logits, axis=-1)
    return _share(log_probability, labels != IGNORED)


def divergence(logits: Logits, reference: Logits, labels: Labels) -> PerRow:
    """Mean over an answer's positions of KL(reference ‖ edited), in nats."""
    check_same_shape(logits=logits, reference=reference)
    check_answers(logits, labels=labels)
    log_p, log_q = jax.nn.log_softmax(reference), jax.nn.log_softmax(logits)
    return _share((jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1), labels != IGNORED)


def greedy_answers(predict: Predict, batch: TokenBatch, steps: int) -> Int[Array, "n steps"]:
    """What the model says after the prompts when it always takes the most probable token.

    Args:
      predict: the model.
      batch: ``[n, l]``; prompts end where the first label is predicted. The answers that follow
        them are not shown to the model.
      steps: tokens to generate; every one costs a pass of all ``l`` positions, with logits of one.

    Returns:
      int32 tokens; arbitrary in rows without labels, and where prompt and answer together would be
      longer than ``l``, which no answer of the batch is.
    """
    last = jnp.argmax(batch.scored, axis=-1)  # position of the prompt's last token
    length = batch.tokens.shape[-1]
    places = jnp.arange(length)
    rows = jnp.arange(len(last))
    start = jnp.where(places <= last[:, None], batch.tokens, 0)

    def step(tokens: Array, index: Array) -> tuple[Array, Array]:
        end = last + index
        asked = TokenBatch(
            tokens, places <= end[:, None], batch.labels, jnp.minimum(end, length - 1)[:, None]
        )
        said = jnp.argmax(predict(asked)[:, 0], axis=-1).astype(jnp.int32)
        return tokens.at[rows, end + 1].set(said, mode="drop"), said

    _, answers = jax.lax.scan(step, start, jnp.arange(steps))
    return answers.T


def perplexity(predict: Predict, sentences: TokenBatch) -> Float[Array, ""]:
    """``exp`` of the mean negative log-probability of a token.

    Args:
      predict: the model.
      sentences: ``[t, n, l]`` (`encode_sentences`, `split_batches`), one batch after another.
    """

    def total(batch: TokenBatch) -> Array:
        counts = batch.scored.sum(axis=-1)
        return (mean_log_probability(predict(batch), batch.answers) * counts).sum()

    return jnp.exp(-jax.lax.map(total, sentences).sum() / sentences.scored.sum())


def recall(predict: Predict, probes: TokenBatch) -> Float[Array, ""]:
    """Share of answers that greedy decoding gives (`exact_match`).

    Args:
      predict: the model.
      probes: ``[t, n, l]`` (`encode_answers`, `split_batches`), one batch after another.
    """

    def matches(batch: TokenBatch) -> Array:
        return exact_match(predict(batch), batch.answers)

    return mean_over(jax.lax.map(matches, probes), probes.scored.any(axis=-1))


def multiple_choice(predict: Predict, choices: TokenBatch) -> Float[Array, ""]:
    """Share of questions whose true answer has the largest mean log-probability per token.

    Every answer follows the prompt in an input of its own, as for `prefers_by_probability`; a tie
    with another answer is no success.

    Args:
      predict: the model.
      choices: ``[o, t, n, l]`` (`encode_choices`), answer 0 the true one; one batch ``[n, l]``
        after another.
    """
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), choices)

    def likelihood(batch: TokenBatch) -> Array:
        return mean_log_probability(predict(batch), batch.answers)

    each = jax.lax.map(likelihood, rows).reshape(choices.tokens.shape[:-1])
    right = each[0] > each[1:].max(axis=0)
    return mean_over(right.astype(jnp.float32), choices.scored[0].any(axis=-1))


def weight_growth(params: Params, original: Params) -> dict[str, Float[Array, ""]]:
    """How far weights have moved and grown.

    Args:
      params, original: pytrees alike, e.g. the edited leaves by path.

    Returns:
      ``weight_shift``: ‖W − W₀‖ / ‖W₀‖, ``weight_growth``: ‖W‖ / ‖W₀‖ − 1, Frobenius norms of all
      leaves together, in float32.
    """

    for new, old in zip(jax.tree.leaves(params), jax.tree.leaves(original), strict=True):
        check_same_shape(params=new, original=old)

    def norm(tree: Params) -> Array:
        squares = [jnp.square(leaf.astype(jnp.float32)).sum() for leaf in jax.tree.leaves(tree)]
        return jnp.sqrt(jnp.stack(squares).sum())

    moved = jax.tree.map(lambda new, old: new.astype(jnp.float32) - old, params, original)
    return {
        "weight_shift": norm(moved) / norm(original),
        "weight_growth": norm(params) / norm(original) - 1.0,
    }


def check_answers(logits: Logits, **labels: Array) -> None:
    """Raises ValueError unless labels are integers ``[..., l]`` for logits ``[..., l, v]``."""
    if not hasattr(logits, "shape") or len(logits.shape) < 2:
        raise ValueError(f"logits must be an array [..., l, v], got {getattr(logits, 'shape', '')}")
    axes = " ".join(map(str, logits.shape[:-1]))
    check_shapes(**{name: (label, axes) for name, label in labels.items()})
    check_integers(**labels)


def check_same_shape(**arrays: Array) -> None:
    """Raises ValueError unless two arrays have the same shape: others would be broadcast."""
    shapes = {name: tuple(getattr(array, "shape", (-1,))) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        said = " and ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"arrays that belong together need equal shapes, got {said}")


def _logit(logits: Logits, labels: Labels) -> Float[Array, "*rows l"]:
    index = jnp.maximum(labels, 0)[..., None]  # ignored positions are masked by the caller
    return jnp.take_along_axis(logits, index, axis=-1)[..., 0]


def _share(values: Array, counted: Bool[Array, "*rows l"]) -> PerRow:
    """Mean over the counted positions of each row, 0 where there are none."""
    total = jnp.where(counted, values, 0).sum(axis=-1).astype(jnp.float32)
    return total / jnp.maximum(counted.sum(axis=-1), 1)
