"""The metrics of an unlearning report, computed from logits.

Names are those of ``summary.json``; fractions are 0…1. What each says and where it comes from
stands in `modeledit_jax.evaluation.forgetting`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from modeledit_jax.evaluation.accuracy import accuracies
from modeledit_jax.evaluation.forgetting import total_variation, tow
from modeledit_jax.tasks.task import Task

TEST_METRICS = ("forget_accuracy_test", "retain_accuracy_test")
"""The two accuracies of ``tow_test``, which learning curves show."""

EVALUATED_ROLES = ("train", "reward", "test")
"""The roles whose outputs `unlearning_metrics` reads."""


def set_accuracies(task: Task, outputs: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Returns ``<set>_accuracy_<role>`` for every role of ``outputs`` (logits ``[N, C]``)."""
    values: dict[str, float] = {}
    for role, logits in outputs.items():
        sets = task.roles[role]
        arrays = jax.tree.map(jnp.asarray, (logits, sets.label, dict(sets.weights)))
        found = jax.device_get(accuracies(*arrays))
        values |= {f"{name}_accuracy_{role}": float(found[name]) for name in sets.weights}
    return values


def unlearning_metrics(
    task: Task,
    outputs: Mapping[str, ArrayLike],
    original: Mapping[str, ArrayLike],
    retrain: Mapping[str, ArrayLike],
) -> dict[str, float]:
    """Returns the report's metrics of one edited network.

    Args:
      task: the unlearning task.
      outputs: logits of the edited network for the roles ``train``, ``reward`` and ``test``.
      original: the same of the unedited network.
      retrain: the same of a network retrained without the forgotten examples.

    Returns:
      Accuracies on the sets of ``train`` and ``test``; ``retain_drop_test`` against the original;
      ``tow`` (train and test, as in RUM) and ``tow_test`` (test alone) against Retrain; total
      variation to Retrain on both test sets; ``optimism``, how much more retain accuracy the
      edit gains on the examples of the reward than on the test set.
    """
    values = set_accuracies(task, outputs)
    before, reference = set_accuracies(task, original), set_accuracies(task, retrain)
    gain = {
        role: values[f"retain_accuracy_{role}"] - before[f"retain_accuracy_{role}"]
        for role in ("reward", "test")
    }
    test = task.roles["test"]
    return {
        **{name: value for name, value in values.items() if not name.endswith("_reward")},
        "retain_drop_test": -gain["test"],
        "tow": float(tow(values, reference)),
        "tow_test": float(tow(values, reference, TEST_METRICS)),
        **{
            f"total_variation_{name}_test": float(
                total_variation(
                    jnp.asarray(outputs["test"]), jnp.asarray(retrain["test"]), jnp.asarray(weights)
                )
            )
            for name, weights in test.weights.items()
        },
        "optimism": gain["reward"] - gain["test"],
    }
