"""What is asked on the way and at the end, beside the metrics that it is made of."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.evaluation.edit_scores import score_edits, summarize
from modeledit_jax.lifelong.scoring import (
    HEADLINE,
    predict_with,
    score_final,
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


@pytest.mark.slow
def test_only_edits_that_were_made_count(model, stream, edited):
    unedited = unedited_answers(model, stream)
    ask = partial(score_stream, model, edited, stream, unedited, first=3)
    found = ask(batches=jnp.int32(2))
    part = jax.tree.map(lambda leaf: leaf[:2], stream)
    expected = summarize(score_edits(predict_with(model, edited), part, unedited[:2]), 3)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6)
    four = [found[name] for name in HEADLINE]
    np.testing.assert_allclose(found["overall"], np.mean(four), rtol=1e-6)


@pytest.mark.slow
def test_the_unedited_model_agrees_with_itself(model, stream, edited):
    unedited = unedited_answers(model, stream)
    same = score_stream(model, model.kernels(), stream, unedited, jnp.int32(4), 1)
    assert same["specificity_unedited"] == 1
    other = score_stream(model, edited, stream, unedited, jnp.int32(4), 1)
    assert other["specificity_unedited"] < 1


@pytest.mark.slow
def test_the_end_is_asked_about_everything_else(model, stream, edited):
    before = score_final(model, model.kernels(), stream, stream.locality, stream.edit, 2)
    after = score_final(model, edited, stream, stream.locality, stream.edit, 2)
    assert before.metrics["weight_shift"] == 0 < after.metrics["weight_shift"]
    assert before.metrics["perplexity"] > 1
    assert after.metrics["perplexity"] != before.metrics["perplexity"]
    np.testing.assert_array_equal(after.ages, [7.5, 1.5])  # two batches of three in each group
    assert ((after.retention >= 0) & (after.retention <= 1)).all()
