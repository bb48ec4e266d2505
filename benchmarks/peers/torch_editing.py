"""Editing as a user of PyTorch and Stable-Baselines3 writes it: one candidate at a time.

The task, the edit (a low-rank shift of ``fc2``) and the reward are those of the project, so that
all contestants score an action alike.
"""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from stable_baselines3 import PPO
from torch.nn import functional

from benchmarks.timing import Contestant
from modeledit_jax.tasks.task import Task

RANK = 4
"""Of the edit: the default of the project's low-rank parametrization."""


class TorchEditing:
    """The reward of an action, in PyTorch.

    Args:
      task: to forget a class, of an MLP with two hidden layers, with the soft reward.
      cached: whether the input of the edited layer is computed once.
    """

    def __init__(self, task: Task, *, cached: bool):
        def to_torch(values: Any) -> torch.Tensor:
            return torch.tensor(np.asarray(values))

        sets = task.roles["reward"]
        params: Any = task.subject.params
        self.layers = {name: {k: to_torch(v) for k, v in params[name].items()} for name in params}
        self.label = to_torch(sets.targets).long()[:, None]
        self.weights = {name: to_torch(w) for name, w in sets.weights.items()}
        self.spread = self.layers["fc2"]["kernel"].std(correction=0)
        x = to_torch(sets.x).flatten(1)
        self.first = self._first(x) if cached else None
        self.x = x
        self.start = self.score(self.layers["fc2"]["kernel"])

    def reward(self, action: Float[np.ndarray, " a"]) -> float:
        """Change of the score by the edit that ``action`` stands for."""
        kernel = self.layers["fc2"]["kernel"]
        rows, columns = kernel.shape
        left, right = torch.tensor(action).split([rows * RANK, columns * RANK])
        matrix = left.reshape(rows, RANK) @ right.reshape(columns, RANK).T / math.sqrt(RANK)
        return self.score(kernel + self.spread * matrix) - self.start

    def score(self, kernel: torch.Tensor) -> float:
        """Probability of the true class on ``retain`` and its complement on ``forget``."""
        with torch.inference_mode():
            hidden = self._first(self.x) if self.first is None else self.first
            hidden = functional.relu(hidden @ kernel + self.layers["fc2"]["bias"])
            logits = hidden @ self.layers["head"]["kernel"] + self.layers["head"]["bias"]
            probability = logits.softmax(1).gather(1, self.label)[:, 0]
            means = {k: (w * probability).sum() / w.sum() for k, w in self.weights.items()}
            return float(means["retain"] + 1.0 - means["forget"])

    def _first(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x @ self.layers["fc1"]["kernel"] + self.layers["fc1"]["bias"])


class EditingEnv(gymnasium.Env):
    """One edit is an episode; the observation says nothing, which is the cheapest for a policy."""

    def __init__(self, editing: TorchEditing, action_size: int):
        self.editing = editing
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-10.0, 10.0, (action_size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The one observation there is."""
        super().reset(seed=seed, options=options)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        """Scores one edit and ends the episode."""
        return np.zeros(1, np.float32), self.editing.reward(action), True, False, {}


def torch_loop(editing: TorchEditing, actions: Float[np.ndarray, "e a"]) -> Contestant:
    """Scores actions one after another and learns nothing."""
    return Contestant(lambda: [editing.reward(action) for action in actions], work=len(actions))


def stable_baselines(editing: TorchEditing, action_size: int, evaluations: int) -> Contestant:
    """PPO with rollouts of 64 and one epoch, as cheap as it is sensible."""
    model = PPO(
        "MlpPolicy", EditingEnv(editing, action_size), n_steps=64, batch_size=64, n_epochs=1, seed=0
    )  # fmt: skip

    def run() -> None:
        model.learn(total_timesteps=evaluations)

    return Contestant(run, work=evaluations)
