"""The oracle with a threshold of its own for every term."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.bias_mitigation.oracle import NAME, decisions, equalized, threshold_oracle
from experiments.common.methods import Result
from modeledit_jax.editors.editor import Cost
from modeledit_jax.tasks.debiasing import CommentTargets
from modeledit_jax.tasks.task import EvaluationSets

N, TERMS = 6_000, 4


@pytest.fixture
def biased() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores that rise with the index of the term."""
    rng = np.random.default_rng(0)
    terms, label = rng.integers(0, TERMS, N), rng.integers(0, 2, N)
    scores = 2.0 * label + 0.8 * terms + rng.normal(size=N) - 2.2
    return scores[:, None].astype(np.float32), label, terms


def spread(called: np.ndarray, label: np.ndarray, terms: np.ndarray, of: int) -> float:
    rates = [called[(terms == term) & (label == of)].mean() for term in range(TERMS)]
    return max(rates) - min(rates)


def test_every_term_gets_the_same_error_rates(biased):
    scores, label, terms = biased
    called = equalized(scores, label, terms)
    for value in (0, 1):
        assert spread(scores[:, 0] > 0, label, terms, value) > 0.4
        assert spread(called, label, terms, value) < 0.06  # sampling of 750 comments each
    assert (called == label).mean() > 0.75  # and is still a classifier


def test_plain_comments_keep_the_classifiers_own_threshold(biased):
    scores, label, terms = biased
    plain = np.arange(N) < N // 2
    task = SimpleNamespace(
        roles={
            "test": EvaluationSets(
                x=None,
                targets=CommentTargets(
                    label, np.eye(TERMS)[terms], np.zeros((0, 0), int), np.zeros_like(label)
                ),
                weights={"comments": plain * 1.0, "counterfactuals": ~plain * 1.0},
            )
        }
    )
    logits = decisions(task, "test", scores, cut=0.5)
    assert logits.shape == (N, 1) and set(np.unique(logits)) == {-1.0, 1.0}
    np.testing.assert_array_equal(logits[plain, 0] > 0, scores[plain, 0] > 0.5)
    assert spread(logits[~plain, 0] > 0, label[~plain], terms[~plain], 0) < 0.08


def test_without_fairlearn_the_row_is_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found, (note,) = threshold_oracle([], Result("original", [], [Cost()]))
    assert found == [] and NAME in note and "modeledit-jax[fairness]" in note


def test_a_term_without_toxic_comments_leaves_the_row_out_with_a_note(biased, monkeypatch):
    scores, label, terms = biased
    label = np.where(terms == 1, 0, label)
    with pytest.raises(ValueError, match="Degenerate"):
        equalized(scores, label, terms)
    everything = np.ones(N)
    sets = EvaluationSets(
        x=None,
        targets=CommentTargets(
            label, np.eye(TERMS)[terms], np.zeros((0, 0), int), np.zeros_like(label)
        ),
        weights={"comments": everything, "counterfactuals": everything},
    )
    monkeypatch.setattr("experiments.bias_mitigation.oracle.threshold", lambda *_: 0.0)
    task = SimpleNamespace(roles={"select": sets, "test": sets})
    outputs = {"select": scores, "test": scores}
    found, (note,) = threshold_oracle([task], Result("original", [outputs], [Cost()]))
    assert found == [] and "Degenerate" in note
