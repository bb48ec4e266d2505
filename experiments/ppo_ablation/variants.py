"""What differs between the variants of the ablation, question by question."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from modeledit_jax.edits.parametrization import LowRank, PerWeight
from modeledit_jax.tasks.task import EvaluationSets, Task
from modeledit_jax.tasks.unlearning import unlearning_reward


@dataclass(frozen=True)
class Variant:
    """A difference from the default.

    Attributes:
      ppo: fields of `PPOConfig`.
      search: fields of `PPO`.
      reward: arguments of `unlearning_reward`; None: the reward of the command line.
      share: of the reward role's examples that score edits.
    """

    ppo: Mapping[str, Any] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    reward: Mapping[str, Any] | None = None
    share: float = 1.0

    def task(self, task: Task, seed: int) -> Task:
        """The task as the variant has it.

        Args:
          task: of the default.
          seed: of the examples that are drawn.
        """
        if self.reward is not None:
            task = replace(task, reward=unlearning_reward(**self.reward))
        if self.share == 1.0:
            return task
        sets = some_examples(task.roles["reward"], self.share, seed)
        return replace(task, roles={**task.roles, "reward": sets})


def some_examples(sets: EvaluationSets, share: float, seed: int) -> EvaluationSets:
    """A share of the examples of a role, drawn without replacement, class by class.

    So every class stays, and tasks of one network, which forget different ones, have the same.

    Args:
      sets: of labeled examples.
      share: of each class, of which at least one example stays.
      seed: of the draw.
    """
    rng, label = np.random.default_rng(seed), np.asarray(sets.label)
    rows = []
    for index in np.unique(label):
        own = np.flatnonzero(label == index)
        rows.append(rng.choice(own, max(round(share * len(own)), 1), replace=False))
    chosen = np.sort(np.concatenate(rows))
    return jax.tree.map(lambda array: np.asarray(array)[chosen], sets)


ADAM = {  # the settings of a one-step Gaussian PPO tuned with Adam
    "search_optimizer": "adam",
    "action_learning_rate": 0.03,
    "num_envs": 20,
    "num_epochs": 4,
    "schedule": "constant",
    "max_grad_norm": float("inf"),
}

DEFAULT = "default"

QUESTIONS: dict[str, dict[str, Variant]] = {
    "ppo": {
        "Adam instead of the natural gradient": Variant(ppo=ADAM),
        "4 epochs": Variant(ppo={"num_epochs": 4}),
        "constant step size": Variant(ppo={"schedule": "constant"}),
        "population 4": Variant(ppo={"num_envs": 4}),
        "population 20": Variant(ppo={"num_envs": 20}),
        "learned spread": Variant(ppo={"std_learning_rate": 0.1}),
    },
    "episode": {
        "weights observed": Variant(search={"observation": "weights"}),
        "horizon 2": Variant(search={"horizon": 2}),
        "horizon 2, time alone observed": Variant(search={"horizon": 2, "observation": "time"}),
        "horizon 4": Variant(search={"horizon": 4}),
        "horizon 4, time alone observed": Variant(search={"horizon": 4, "observation": "time"}),
    },
    "reward": {
        "accuracies in place of probabilities": Variant(reward={"kind": "accuracy"}),
        "forgetting counts 1/4": Variant(reward={"forgetting": 0.25}),
        "forgetting counts 1/2": Variant(reward={"forgetting": 0.5}),
        "forgetting counts 2": Variant(reward={"forgetting": 2.0}),
        "forgetting counts 4": Variant(reward={"forgetting": 4.0}),
        "size of the edit costs 0.02": Variant(reward={"edit_size": 0.02}),
        "size of the edit costs 0.2": Variant(reward={"edit_size": 0.2}),
    },
    "examples": {
        "1/16 of the examples": Variant(share=1 / 16),
        "1/8 of the examples": Variant(share=1 / 8),
        "1/4 of the examples": Variant(share=1 / 4),
        "1/2 of the examples": Variant(share=1 / 2),
    },
    "action": {
        "rank 1": Variant(search={"parametrization": LowRank(1)}),
        "rank 2": Variant(search={"parametrization": LowRank(2)}),
        "rank 8": Variant(search={"parametrization": LowRank(8)}),
        "rank 16": Variant(search={"parametrization": LowRank(16)}),
        "a number for every weight": Variant(search={"parametrization": PerWeight()}),
    },
}
"""Variants by question; the default is compared in each."""
