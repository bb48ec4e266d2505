"""Each metric of knowledge against a slow NumPy reference, and what padding must not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeledit_jax.data.facts.encoding import split_batches
from modeledit_jax.data.facts.tokens import IGNORED, pad_batch, with_places
from modeledit_jax.evaluation import knowledge

VOCABULARY = 7
TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(101, VOCABULARY)) * 2, jnp.float32)


def predict(batch):
    """A causal model: logits by a hash of all tokens so far."""
    places = jnp.arange(1, batch.tokens.shape[-1] + 1)
    hashes = (batch.tokens + 1) * (places * places + 3)
    seen = jnp.cumsum(jnp.where(batch.attention, hashes, 0), axis=-1)
    if batch.places is not None:
        seen = jnp.take_along_axis(seen, batch.positions, axis=-1)
    return TABLE[seen % len(TABLE)]


def reference_logits(prefix):
    """Of `predict` after a list of tokens."""
    seen = sum((token + 1) * (place * place + 3) for place, token in enumerate(prefix, 1))
    return np.asarray(TABLE[seen % len(TABLE)], np.float64)


def reference_log_probabilities(prompt, answer):
    """Of every token of an answer, given those before it."""
    values = []
    for index, token in enumerate(answer):
        logits = reference_logits([*prompt, *answer[:index]])
        values.append(logits[token] - np.log(np.exp(logits).sum()))
    return values


def reference_hits(prompt, answer):
    return [
        int(reference_logits([*prompt, *answer[:index]]).argmax()) == token
        for index, token in enumerate(answer)
    ]


def reference_preferences(prompt, answer, rival):
    """RLEdit: both answers under the input of the first, over the shorter length."""
    wins = []
    for index in range(min(len(answer), len(rival))):
        logits = reference_logits([*prompt, *answer[:index]])
        wins.append(logits[answer[index]] > logits[rival[index]])
    return np.mean(wins)


IDS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4)
ROWS = st.lists(st.tuples(IDS, IDS, IDS), min_size=3, max_size=3)  # one shape to compile
LENGTH = 7


def _encode(rows, length=LENGTH):
    prompts, answers, rivals = zip(*rows, strict=True)
    return pad_batch(prompts, answers, length), pad_batch(prompts, rivals, length)


greedy = jax.jit(lambda batch: knowledge.greedy_answers(predict, batch, 4))


def _close(actual, expected):
    np.testing.assert_allclose(actual, np.asarray(expected, float), rtol=1e-5, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(rows=ROWS)
def test_metrics_of_one_answer_are_those_of_the_slow_reference(rows):
    batch, _ = _encode(rows)
    logits = predict(batch)
    hits = [reference_hits(prompt, answer) for prompt, answer, _ in rows]
    _close(knowledge.token_accuracy(logits, batch.labels), [np.mean(own) for own in hits])
    _close(knowledge.exact_match(logits, batch.labels), [all(own) for own in hits])
    expected = [np.mean(reference_log_probabilities(p, answer)) for p, answer, _ in rows]
    _close(knowledge.mean_log_probability(logits, batch.labels), expected)


@settings(max_examples=12, deadline=None)
@given(rows=ROWS)
def test_preferences_are_those_of_the_slow_references(rows):
    batch, rival = _encode(rows)
    logits = predict(batch)
    rival_logits = predict(rival)
    by_token = knowledge.prefers_by_token(logits, batch.labels, rival.labels)
    _close(by_token, [reference_preferences(*row) for row in rows])
    answers, rivals = (
        np.array([np.mean(reference_log_probabilities(row[0], row[which])) for row in rows])
        for which in (1, 2)
    )
    clear = np.abs(answers - rivals) > 1e-5  # a tie within rounding may go either way
    chosen = knowledge.prefers_by_probability(logits, batch.labels, rival_logits, rival.labels)
    _close(np.asarray(chosen)[clear], (answers > rivals)[clear])


def test_logits_of_the_answers_alone_give_every_metric():
    rows = [([1, 2], [3, 4], [5]), ([6], [0], [1, 1]), ([2, 0, 1], [5, 5], [6])]
    batch, rival = _encode(rows)
    few, few_rivals = with_places(batch), with_places(rival)
    assert few.answers.shape == (3, 2) and few_rivals.answers.shape == (3, 2)
    for own, short in ((batch, few), (rival, few_rivals)):
        for metric in (
            knowledge.token_accuracy,
            knowledge.exact_match,
            knowledge.mean_log_probability,
        ):
            _close(metric(predict(short), short.answers), metric(predict(own), own.labels))
    by_token = knowledge.prefers_by_token(predict(few), few.answers, few_rivals.answers)
    _close(by_token, knowledge.prefers_by_token(predict(batch), batch.labels, rival.labels))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(rows=ROWS, extra=st.sampled_from([1, 5]))
def test_padding_changes_no_metric(rows, extra):
    results = []
    for length in (LENGTH, LENGTH + extra):
        batch, rival = _encode(rows, length)
        logits = predict(batch)
        rival_logits = predict(rival)
        results.append(
            [
                knowledge.token_accuracy(logits, batch.labels),
                knowledge.exact_match(logits, batch.labels),
                knowledge.agreement(logits, jnp.argmax(logits, -1), batch.labels),
                knowledge.prefers_by_token(logits, batch.labels, rival.labels),
                knowledge.prefers_by_probability(logits, batch.labels, rival_logits, rival.labels),
                knowledge.mean_log_probability(logits, batch.labels),
            ]
        )
    for short, long in zip(*results, strict=True):
        np.testing.assert_array_equal(short, long)


@settings(max_examples=10, deadline=None)
@given(rows=ROWS)
def test_greedy_decoding_is_that_of_a_loop_and_its_match_is_exact_match(rows):
    batch, _ = _encode(rows)
    answers = greedy(batch)
    for row, (prompt, answer, _) in enumerate(rows):
        said = list(prompt)
        for _ in answer:
            said.append(int(reference_logits(said).argmax()))
        np.testing.assert_array_equal(answers[row, : len(answer)], said[len(prompt) :])
    matches = [
        answers[row, : len(answer)].tolist() == list(answer)
        for row, (_, answer, _) in enumerate(rows)
    ]
    teacher_forced = knowledge.exact_match(predict(batch), batch.labels)
    np.testing.assert_array_equal(matches, teacher_forced)


def test_greedy_decoding_does_not_see_the_answer():
    rows = [([1, 2], [3, 4, 5], [0]), ([1, 2], [6, 0, 6], [0])]
    answers = knowledge.greedy_answers(predict, _encode(rows)[0], 3)
    np.testing.assert_array_equal(answers[0], answers[1])


def test_preferences_by_hand():
    """Prompt of one token; answer (1, 2), rival (3,); two positions, one of them shared."""
    logits = jnp.zeros((1, 3, 4)).at[0, 0].set(jnp.array([0.0, 2.0, 0.0, 1.0]))
    labels, rivals = jnp.array([[1, 2, IGNORED]]), jnp.array([[3, IGNORED, IGNORED]])
    assert knowledge.prefers_by_token(logits, labels, rivals) == 1.0
    assert knowledge.prefers_by_token(logits, labels, jnp.array([[3, 2, 0]])) == 0.5
    assert knowledge.prefers_by_token(logits, rivals, labels) == 0.0
    total = np.log(2 + np.exp(2) + np.exp(1))
    _close(knowledge.mean_log_probability(logits, labels), [(2 - total - np.log(4)) / 2])
    _close(knowledge.mean_log_probability(logits, rivals), [1 - total])
    # The rival wins by probability per token: the answer's second token is one of four.
    assert knowledge.prefers_by_probability(logits, labels, logits, rivals) == float(
        (2 - total - np.log(4)) / 2 > 1 - total
    )


def test_divergence_is_the_mean_kl_over_the_answer():
    rng = np.random.default_rng(1)
    logits, reference = rng.normal(size=(2, 2, 4, 5)).astype(np.float32)
    labels = np.array([[IGNORED, 1, 2, IGNORED], [0, IGNORED, IGNORED, IGNORED]])
    log_p, log_q = (
        np.log(np.exp(own.astype(float)) / np.exp(own.astype(float)).sum(-1, keepdims=True))
        for own in (reference, logits)
    )
    kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    actual = knowledge.divergence(jnp.asarray(logits), jnp.asarray(reference), jnp.asarray(labels))
    _close(actual, [kl[0, 1:3].mean(), kl[1, 0]])


def test_rows_without_labels_give_zero_and_are_left_out_of_the_mean():
    batch = split_batches(pad_batch([[1]] * 3, [[2, 3]] * 3, LENGTH), 2)
    logits = predict(batch)
    values = knowledge.token_accuracy(logits, batch.labels)
    assert values.shape == (2, 2) and values[1, 1] == 0.0
    for metric in (knowledge.exact_match, knowledge.mean_log_probability):
        assert metric(logits, batch.labels)[1, 1] == 0.0
    _close(knowledge.mean_over(values, batch.scored.any(-1)), values[0, 0])
    assert jnp.isnan(knowledge.mean_over(values, jnp.zeros((2, 2), bool)))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_perplexity_and_recall_are_means_over_tokens_and_answers(size):
    rows = [([1], [2, 3, 4]), ([5], [6]), ([0], [0, 1]), ([3], [3])]
    batch = pad_batch(*zip(*rows, strict=True), LENGTH)
    logs = [value for row in rows for value in reference_log_probabilities(*row)]
    split = split_batches(batch, size)
    _close(jax.jit(knowledge.perplexity, static_argnums=0)(predict, split), np.exp(-np.mean(logs)))
    hits = [all(reference_hits(*row)) for row in rows]
    _close(knowledge.recall(predict, split), np.mean(hits))


@pytest.mark.parametrize("size", [1, 7, 24, 30])
def test_multiple_choice_is_that_of_a_loop(size):
    """Answers of one to three tokens, in batches that are filled up or not."""
    rng = np.random.default_rng(size)
    prompts = [rng.integers(0, VOCABULARY, rng.integers(1, 5)).tolist() for _ in range(24)]
    options = [
        [rng.integers(0, VOCABULARY, rng.integers(1, 4)).tolist() for _ in prompts]
        for _ in range(4)
    ]
    rows = [split_batches(pad_batch(prompts, own, 8), size) for own in options]
    found = knowledge.multiple_choice(predict, jax.tree.map(lambda *x: jnp.stack(x), *rows))
    right = []
    for prompt, *answers in zip(prompts, *options, strict=True):
        means = [np.mean(reference_log_probabilities(prompt, answer)) for answer in answers]
        right.append(means[0] > max(means[1:]))
    np.testing.assert_allclose(found, np.mean(right), rtol=1e-6)
    assert 0 < np.mean(right) < 1


def test_a_tie_is_no_right_choice():
    rows = split_batches(pad_batch([[1, 2]] * 3, [[3]] * 3, 8), 2)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), rows)
    assert knowledge.multiple_choice(predict, both) == 0


def test_a_uniform_model_has_the_vocabulary_as_perplexity():
    batch = split_batches(pad_batch([[1], [2]], [[3, 4], [5]], LENGTH), 2)

    def uniform(batch):
        return jnp.zeros((*batch.answers.shape, VOCABULARY))

    _close(knowledge.perplexity(uniform, batch), VOCABULARY)


def test_a_model_that_has_collapsed_to_nan_prefers_nothing():
    batch, rival = _encode([([1, 2], [3, 4], [5])])
    logits = jnp.full((1, LENGTH, VOCABULARY), jnp.nan)
    assert knowledge.prefers_by_token(logits, batch.labels, rival.labels) == 0.0
    assert knowledge.prefers_by_probability(logits, batch.labels, logits, rival.labels) == 0.0
    assert knowledge.exact_match(logits, batch.labels) == 0.0


def test_weight_growth_by_hand():
    original = {"a": jnp.array([[3.0, 0.0]]), "b": jnp.array([4.0])}
    edited = {"a": jnp.array([[3.0, 5.0]]), "b": jnp.array([4.0])}
    growth = knowledge.weight_growth(edited, original)
    _close(growth["weight_shift"], 1.0)
    _close(growth["weight_growth"], np.sqrt(50.0) / 5.0 - 1.0)
    assert knowledge.weight_growth(original, original) == {"weight_shift": 0, "weight_growth": 0}


def test_metrics_are_jittable_with_any_leading_axes():
    batch = pad_batch([[1, 2], [3]], [[4], [5, 6]], LENGTH)
    logits = predict(batch)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (logits, batch.labels))
    values = jax.jit(knowledge.token_accuracy)(*stacked)
    assert values.shape == (2, 2) and values.dtype == jnp.float32
    np.testing.assert_array_equal(values[0], knowledge.token_accuracy(logits, batch.labels))
