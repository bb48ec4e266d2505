"""The numbers of an unlearning report against counts in NumPy."""

import numpy as np
import pytest
import scipy.special

from modeledit_jax.tasks.outputs import role_outputs
from modeledit_jax.tasks.unlearning_metrics import (
    EVALUATED_ROLES,
    set_accuracies,
    unlearning_metrics,
)
from tests import tiny


def outputs(seed):
    """Of another network on the task to forget the class 1."""
    return role_outputs(tiny.task(1), tiny.subject(seed).params, EVALUATED_ROLES)


def accuracy(logits, role, forget):
    y = getattr(tiny.splits(), role).y
    return (logits[role].argmax(axis=-1) == y)[(y == 1) == forget].mean()


def test_accuracies_count_the_hits_of_each_set():
    found = set_accuracies(tiny.task(1), outputs(0))
    assert len(found) == 6  # train, reward and test, two sets each
    for role in EVALUATED_ROLES:
        for name, forget in (("forget", True), ("retain", False)):
            expected = accuracy(outputs(0), role, forget)
            np.testing.assert_allclose(found[f"{name}_accuracy_{role}"], expected, rtol=1e-6)


def test_the_metrics_of_an_edit_are_those_of_its_outputs():
    edited, original, retrain = outputs(3), outputs(0), outputs(5)
    found = unlearning_metrics(tiny.task(1), edited, original, retrain)

    def gap(role, forget):
        return 1 - abs(accuracy(edited, role, forget) - accuracy(retrain, role, forget))

    def gain(role):
        return accuracy(edited, role, False) - accuracy(original, role, False)

    y = tiny.splits().test.y
    p, q = (scipy.special.softmax(logits["test"], axis=1) for logits in (edited, retrain))
    apart = 0.5 * np.abs(p - q).sum(axis=1)
    expected = {
        "forget_accuracy_train": accuracy(edited, "train", True),
        "retain_accuracy_train": accuracy(edited, "train", False),
        "forget_accuracy_test": accuracy(edited, "test", True),
        "retain_accuracy_test": accuracy(edited, "test", False),
        "retain_drop_test": -gain("test"),
        "tow": gap("train", True) * gap("train", False) * gap("test", False),
        "tow_test": gap("test", True) * gap("test", False),
        "total_variation_forget_test": apart[y == 1].mean(),
        "total_variation_retain_test": apart[y != 1].mean(),
        "optimism": gain("reward") - gain("test"),
    }
    assert found == pytest.approx(expected, abs=1e-5)
    assert found["tow"] < 0.99 and abs(found["optimism"]) > 1e-3


def test_a_network_compared_with_itself():
    found = unlearning_metrics(tiny.task(1), outputs(0), outputs(0), outputs(0))
    assert found["tow"] == found["tow_test"] == 1.0
    for name in ("retain_drop_test", "optimism", "total_variation_retain_test"):
        assert found[name] == 0.0
