"""What is asked on the way and at the end, beside the metrics that it is made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.facts.questions import group_questions
from modeledit_jax.evaluation.edit_scores import score_edits, summarize
from modeledit_jax.evaluation.knowledge import recall
from modeledit_jax.lifelong.scoring import (
    HEADLINE,
    predict_with,
    score_besides,
    score_stream,
    unedited_answers,
)


@pytest.fixture(scope="module")
def edited(model):
    """Kernels that answer some questions otherwise."""
    return {
        name: kernel + 0.5 * jax.random.normal(jax.random.key(len(name)), kernel.shape)
        for name, kernel in model.kernels().items()
    }


@pytest.fixture(scope="module")
def ask(model, stream):
    questions = group_questions(stream, lambda places: 5)
    unedited = unedited_answers(model, questions)
    return partial(score_stream, model, questions=questions, real=stream.real, unedited=unedited)


@pytest.mark.slow
def test_only_edits_that_were_made_count(model, stream, edited, ask):
    found, remembered = ask(edited, batches=jnp.int32(2), first=3)
    part = jax.tree.map(lambda leaf: leaf[:2], stream)
    questions = group_questions(part, lambda places: 5)
    unedited = unedited_answers(model, questions)
    scores = score_edits(predict_with(model, edited), questions, part.real, unedited)
    for name, value in summarize(scores, 3).items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    np.testing.assert_array_equal(remembered[:2], scores.efficacy.tokens)
    four = [found[name] for name in HEADLINE]
    np.testing.assert_allclose(found["overall"], np.mean(four), rtol=1e-6)


@pytest.mark.slow
def test_the_unedited_model_agrees_with_itself(model, edited, ask):
    same, _ = ask(model.kernels(), batches=jnp.int32(4), first=1)
    assert same["specificity_unedited"] == 1
    other, _ = ask(edited, batches=jnp.int32(4), first=1)
    assert other["specificity_unedited"] < 1


@pytest.mark.slow
def test_it_is_asked_about_everything_else(model, stream, edited):
    before = score_besides(model, model.kernels(), stream.locality, stream.edit)
    after = score_besides(model, edited, stream.locality, stream.edit)
    assert before["weight_shift"] == 0 < after["weight_shift"]
    assert before["perplexity"] > 1
    assert after["perplexity"] != before["perplexity"]
    assert not {"known_recall", "multiple_choice"} & set(before)


@pytest.mark.slow
def test_further_questions_are_asked_where_there_are_any(model, stream, edited):
    choices = jax.tree.map(lambda *x: jnp.stack(x), stream.edit, stream.locality, stream.rephrase)
    found = score_besides(model, edited, stream.locality, stream.edit, stream.rephrase, choices)
    predict = predict_with(model, edited)
    np.testing.assert_allclose(found["known_recall"], recall(predict, stream.rephrase), rtol=1e-6)
    right = []
    for batch, row in np.ndindex(stream.real.shape):
        scores = []
        for option in (stream.edit, stream.locality, stream.rephrase):
            one = jax.tree.map(lambda leaf, b=batch: leaf[b], option)
            labels = np.asarray(one.labels[row])
            logits = np.asarray(predict(one)[row], np.float64)
            logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
            places = np.flatnonzero(labels >= 0)
            scores.append(logits[places, labels[places]].mean())
        right.append(scores[0] > max(scores[1:]))
    np.testing.assert_allclose(found["multiple_choice"], np.mean(right), rtol=1e-6)
    assert 0 < np.mean(right) < 1
