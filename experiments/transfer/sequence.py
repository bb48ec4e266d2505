"""Requests one after another on one network: what is forgotten must stay forgotten."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.transfer.batch import TaskBatch
from experiments.transfer.networks import REWARD, Family
from experiments.transfer.policies import Policies
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import LearnedEditor
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.unlearning import forget_in_turn

ORDERS = 5
"""Random orders of all classes but one, for every network."""


def sequence_rows(policies: Policies) -> list[Row]:
    """Requests in turn, by the policy as it is and after further training on such.

    Factors: ``in_turn``, whether it was trained further; ``after``, the number of requests.
    """
    start = policies.without(None).editor
    rows = _in_turn(policies, start, policies.config.factors("sequence", in_turn=False))
    if policies.config.sequence_updates:
        factors = policies.config.factors("sequence", in_turn=True)
        rows += _in_turn(policies, policies.in_turn().editor, factors)
    return rows


def _in_turn(policies: Policies, editor: LearnedEditor, factors: Mapping[str, Any]) -> list[Row]:
    """Edits new networks request by request.

    Returns:
      A row of every network and order after every request: ``worst_forgotten_test``, the highest
      accuracy on any class asked for so far, and ``rest_drop_test``, what all others have lost.
    """
    networks = policies.networks
    family = networks.family(policies.config.networks[0])
    classes = networks.seen(None)
    orders = [
        tuple(int(c) for c in np.random.default_rng(1000 + index).permutation(classes)[:-1])
        for index in range(ORDERS)
    ]
    tasks = [
        forget_in_turn(subject, family.splits, order, reward=REWARD)
        for subject in family.subjects(networks.new_seeds)
        for order in orders
    ]
    batch = TaskBatch.of(editor, tasks, networks.new_seeds)
    label = np.asarray(family.splits.test.y)
    found = [
        after_each_request(
            _right_answers(batch, index, plan, family), orders[index % ORDERS], label
        )
        for index, plan in enumerate(batch.plans(editor))
    ]
    return [
        Row(
            policies.method,
            tasks[index].name,
            batch.seeds[index],
            metrics[step],
            Cost(),
            {**factors, "after": step + 1},
        )
        for step in range(len(orders[0]))
        for index, metrics in enumerate(found)
    ]


def _right_answers(
    batch: TaskBatch, index: int, plan: np.ndarray, family: Family
) -> list[np.ndarray]:
    """Which test examples are answered rightly, before and after every request."""
    env, features = batch.env, batch.evaluator.features(index, "test")
    leaves = batch.pool.task(index).original
    original, label = leaves, np.asarray(family.splits.test.y)
    right = [np.asarray(env.outputs(leaves, features)).argmax(-1) == label]
    for action in jnp.asarray(plan):
        leaves = env.edit(leaves, original, action)
        right.append(np.asarray(env.outputs(leaves, features)).argmax(-1) == label)
    return right


def after_each_request(
    right: Sequence[np.ndarray], order: Sequence[int], label: np.ndarray
) -> list[dict[str, float]]:
    """Metrics after every request.

    Args:
      right: which test examples ``[N]`` are answered rightly, before and after every request.
      order: classes asked for.
      label: of the test examples, ``[N]``.
    """
    found = []
    for step in range(1, len(order) + 1):
        asked = order[:step]
        rest = ~np.isin(label, asked)
        found.append(
            {
                "worst_forgotten_test": max(float(right[step][label == c].mean()) for c in asked),
                "rest_drop_test": float(right[0][rest].mean() - right[step][rest].mean()),
            }
        )
    return found
