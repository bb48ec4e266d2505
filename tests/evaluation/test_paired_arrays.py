"""Every metric of two arrays refuses those that do not belong together.

They would be broadcast: 200 scores with 200 labels in a column make 40,000 pairs, and a number. To
this kind belong labels, weights, groups, blocks and second outputs with an axis more or less, of
another length, transposed, or of one row; and labels that are no integers.
"""

import jax
import numpy as np
import pytest

from modeledit_jax.editors.debiasing.erasure import leace_projection
from modeledit_jax.editors.debiasing.fine_tuning import logit_pairing, squared_mmd
from modeledit_jax.editors.debiasing.refit import cells
from modeledit_jax.editors.debiasing.reweighing import dixon_weights, one_sided, reweighing_weights
from modeledit_jax.evaluation import accuracy, auc, fairness, forgetting, knowledge
from modeledit_jax.evaluation.block_bootstrap import paired_block_bootstrap
from modeledit_jax.evaluation.calibration import expected_calibration_error
from modeledit_jax.evaluation.edit_scores import retention_by_age, retention_first
from modeledit_jax.evaluation.fairness_report import fairness_metrics, per_term
from modeledit_jax.evaluation.ranking import rank
from modeledit_jax.evaluation.targets import first_met

RNG = np.random.default_rng(0)
S = RNG.normal(size=8).astype(np.float32)
Y = np.array([0, 1] * 4)
G = RNG.integers(0, 2, (8, 3)).astype(np.float32)
W = np.ones(8, np.float32)
LOGITS = RNG.normal(size=(8, 4)).astype(np.float32)
BLOCKS = np.arange(8).reshape(4, 2)
ANSWERS, TOKENS = RNG.normal(size=(2, 5, 7)).astype(np.float32), RNG.integers(0, 7, (2, 5))
WRONG = np.ones((5, 3), bool)

REFUSED = {
    "auc": lambda: auc.auc(S, Y[:, None]),
    "auc, weights": lambda: auc.auc(S, Y, W[:, None]),
    "auc, scores": lambda: auc.auc(S[:, None], Y),
    "auc, dtype": lambda: auc.auc(S, Y / 2),
    "auc, list": lambda: auc.auc(S, Y.tolist()),
    "group_aucs": lambda: auc.group_aucs(S, Y, G.T),
    "average_equality_gaps": lambda: auc.average_equality_gaps(S, Y, G[:, 0]),
    "labeled_weights": lambda: auc.labeled_weights(Y, W[:1]),
    "rank": lambda: rank(S, Y[:, None] > 0),
    "weighted_mean": lambda: accuracy.weighted_mean(S, W[:, None]),
    "accuracy": lambda: accuracy.accuracy(LOGITS, Y[:, None], W),
    "accuracy, one-hot": lambda: accuracy.accuracy(LOGITS, np.eye(4, dtype=int)[Y], W),
    "probability": lambda: accuracy.true_class_probability(LOGITS, Y[:1], W),
    "cross_entropy": lambda: accuracy.cross_entropy(LOGITS, Y, W[:1]),
    "confusion_matrix": lambda: accuracy.confusion_matrix(LOGITS, Y[:4], 4),
    "margins": lambda: accuracy.margins(LOGITS, Y[:, None]),
    "error_rates": lambda: fairness.error_rates(S, Y, G[:4], 0.0),
    "error_rates, threshold": lambda: fairness.error_rates(S, Y, G, S),
    "equal_error_threshold": lambda: fairness.equal_error_threshold(S, Y[:, None]),
    "counterfactual_dispersion": lambda: fairness.counterfactual_dispersion(S[:, None], BLOCKS),
    "dispersion, dtype": lambda: fairness.counterfactual_dispersion(S, BLOCKS / 1),
    "calibration": lambda: expected_calibration_error(S, Y[:, None], G),
    "fairness_metrics": lambda: fairness_metrics(S, Y[:, None], G, 0.0),
    "fairness_metrics, shares": lambda: fairness_metrics(S, Y, 0.3 * G, 0.0),
    "fairness_metrics, weights": lambda: fairness_metrics(S, Y, G, 0.0, weights=-W),
    "per_term": lambda: per_term(S, Y / 2, G, 0.0),
    "total_variation": lambda: forgetting.total_variation(LOGITS, LOGITS[:1], W),
    "numerical_rank": lambda: forgetting.numerical_rank(S),
    "token_accuracy": lambda: knowledge.token_accuracy(ANSWERS, TOKENS[:1]),
    "exact_match": lambda: knowledge.exact_match(ANSWERS, TOKENS[:, 0]),
    "agreement": lambda: knowledge.agreement(ANSWERS, TOKENS[:1], TOKENS),
    "prefers_by_token": lambda: knowledge.prefers_by_token(ANSWERS, TOKENS, TOKENS[:, :1]),
    "prefers_by_probability": lambda: knowledge.prefers_by_probability(
        ANSWERS, TOKENS, ANSWERS[:, :2], TOKENS
    ),
    "divergence": lambda: knowledge.divergence(ANSWERS, ANSWERS[:1], TOKENS),
    "mean_over": lambda: knowledge.mean_over(G, G.T > 0),
    "weight_growth": lambda: knowledge.weight_growth({"a": G}, {"a": G[0]}),
    "retention_first": lambda: retention_first(G, G[:, :1] > 0, 3),
    "retention_by_age": lambda: retention_by_age(G, G[:, :1] > 0, 2),
    "block_bootstrap": lambda: paired_block_bootstrap([WRONG], [WRONG[:, :1]], reps=2),
    "first_met": lambda: first_met(WRONG, np.ones(2)),
    "logit_pairing": lambda: logit_pairing(S[:, None], BLOCKS),
    "squared_mmd": lambda: squared_mmd(S[:, None], S, 1.0),
    "leace": lambda: leace_projection(LOGITS, Y),
    "reweighing_weights": lambda: reweighing_weights(Y[:, None], G),
    "one_sided": lambda: one_sided(Y, G[:4]),
    "dixon_weights": lambda: dixon_weights(Y, G[:-1]),
    "cells": lambda: cells(Y[:, None], G, 1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_of_other_shapes_are_refused_in_one_line(name, unchecked_annotations):
    with pytest.raises(ValueError, match=r"must be|need|: pass ") as refused:
        jax.eval_shape(REFUSED[name]) if "fairness" not in name else REFUSED[name]()
    assert "\n" not in str(refused.value)


def test_leading_axes_and_labels_that_are_booleans_are_welcome(unchecked_annotations):
    candidates = np.stack([LOGITS, -LOGITS])
    assert jax.eval_shape(accuracy.accuracy, candidates, Y, W).shape == (2,)
    assert jax.eval_shape(forgetting.total_variation, candidates, LOGITS, W).shape == (2,)
    assert jax.eval_shape(auc.auc, S, Y > 0).shape == ()
