"""Requests one after another on one network: what is forgotten must stay forgotten."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.transfer.config import Config
from experiments.transfer.networks import REWARD, Family, Networks
from experiments.transfer.zero_shot import TaskBatch
from modeledit_jax.editors.editor import Cost
from modeledit_jax.editors.policy.learned import LearnedEditor
from modeledit_jax.report.table import Row
from modeledit_jax.tasks.unlearning import forget_in_turn

ORDERS = 5
"""Random orders of all classes but one, for every network."""


def sequence_rows(name: str, editor: LearnedEditor, config: Config, store: Networks) -> list[Row]:
    """Edits new networks request by request.

    Returns:
      Rows ``<name>-after-<t>`` of every network and order: ``worst_forgotten_test``, the highest
      accuracy on any class asked for so far, and ``rest_drop_test``, what all others have lost.
    """
    family = store.family(config.networks[0])
    classes = store.seen(-1)
    orders = [
        tuple(int(c) for c in np.random.default_rng(1000 + index).permutation(classes)[:-1])
        for index in range(ORDERS)
    ]
    tasks = [
        forget_in_turn(subject, family.splits, order, reward=REWARD)
        for subject in family.subjects(store.new_seeds)
        for order in orders
    ]
    batch = TaskBatch.of(editor, tasks, store.new_seeds)
    courses = []
    for index, plan in enumerate(batch.plans(editor)):
        right = _right_answers(batch, index, plan, family)
        courses.append(_course(right, orders[index % ORDERS], family))
    return [
        Row(f"{name}-after-{step + 1}", tasks[index].name, batch.seeds[index], own[step], Cost())
        for step in range(len(orders[0]))
        for index, own in enumerate(courses)
    ]


def _right_answers(
    batch: TaskBatch, index: int, plan: np.ndarray, family: Family
) -> list[np.ndarray]:
    """Which test examples are answered rightly, before and after every request."""
    env, features = batch.env, batch.evaluator.features(index, "test")
    leaves = jax.tree.map(lambda leaf: leaf[index], batch.params.original)
    original, label = leaves, np.asarray(family.splits.test.y)
    right = [np.asarray(env.outputs(leaves, features)).argmax(-1) == label]
    for action in jnp.asarray(plan):
        leaves = env.edit(leaves, original, action)
        right.append(np.asarray(env.outputs(leaves, features)).argmax(-1) == label)
    return right


def _course(
    right: Sequence[np.ndarray], order: Sequence[int], family: Family
) -> list[dict[str, float]]:
    label = np.asarray(family.splits.test.y)
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
