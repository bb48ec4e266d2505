"""The oracle that no edit can be: a threshold of its own for every identity term.

Fairlearn's ``ThresholdOptimizer`` (Hardt et al. 2016, Equality of Opportunity in Supervised
Learning) leaves the classifier as it is and decides by the identity term of the comment, from the
labels of the very comments it is judged on. Needs the extra ``fairness``.
"""

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from experiments.common.methods import Result
from modeledit_jax.editors.editor import Cost
from modeledit_jax.tasks.debiasing import DebiasingTask, members
from modeledit_jax.tasks.debiasing_metrics import threshold

NAME = "threshold-optimizer"


class GivenScores(ClassifierMixin, BaseEstimator):
    """A scikit-learn classifier whose score is its only feature."""

    classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, x: np.ndarray, y: np.ndarray) -> "GivenScores":
        """Nothing is left to learn."""
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        """The scores ``[N]`` given as ``x [N, 1]``."""
        return np.asarray(x)[:, 0]


def threshold_oracle(
    tasks: Sequence[DebiasingTask], unedited: Result
) -> tuple[list[Result], list[str]]:
    """Decisions at equalized odds as logits of ±1, or nothing and a note if that cannot be had.

    Args:
      tasks: one per network.
      unedited: outputs of the networks as they are.
    """
    if importlib.util.find_spec("fairlearn") is None:
        why = "it needs Fairlearn, pip install 'modeledit-jax[fairness]'"
        return [], [f"{NAME} was left out: {why}"]
    try:
        outputs = [
            {
                role: decisions(task, role, logits, threshold(task, outputs))
                for role, logits in outputs.items()
            }
            for task, outputs in zip(tasks, unedited.outputs, strict=True)
        ]
    except ValueError as error:  # Fairlearn wants toxic and harmless comments of every term
        return [], [f"{NAME} was left out: {error}"]
    return [Result(NAME, outputs, [Cost()] * len(outputs))], []


def decisions(task: DebiasingTask, role: str, logits: np.ndarray, cut: float) -> np.ndarray:
    """Decides on the comments of one role.

    Args:
      task: the debiasing task.
      role: whose comments; labels and terms of its counterfactuals set their thresholds.
      logits: of the unedited classifier, ``[N, 1]``.
      cut: its threshold, which stays in force on plain comments.

    Returns:
      ``[N, 1]`` float32: 1 where called toxic, −1 elsewhere.
    """
    called = (logits[:, 0] > cut).astype(int)
    sets = task.roles[role]
    if "counterfactuals" in sets.weights:
        chosen = members(sets, "counterfactuals")
        terms = np.asarray(sets.targets.groups)[chosen].argmax(axis=1)
        called[chosen] = equalized(logits[chosen], np.asarray(sets.targets.label)[chosen], terms)
    return (2 * called - 1).astype(np.float32)[:, None]


def equalized(scores: np.ndarray, label: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Decisions ``[n]`` of 0 or 1 with the same error rates for every term (drawn by a seed)."""
    from fairlearn.postprocessing import ThresholdOptimizer

    optimizer: Any = ThresholdOptimizer(
        estimator=GivenScores(),
        constraints="equalized_odds",
        objective="balanced_accuracy_score",
        prefit=True,
        predict_method="decision_function",
    )
    scores = np.asarray(scores, np.float64)  # Fairlearn writes float64 into a frame of its dtype
    optimizer.fit(scores, label, sensitive_features=terms)
    return np.asarray(optimizer.predict(scores, sensitive_features=terms, random_state=0))
