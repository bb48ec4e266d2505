"""Options of the transfer experiment on toxicity classifiers."""

from dataclasses import dataclass

from experiments.bias_mitigation.config import CommentOptions
from experiments.common.checks import Count, Evaluations, Networks
from experiments.common.options import MemoryOptions, World, check_training_seeds


@dataclass(frozen=True)
class Config(MemoryOptions, CommentOptions):
    """Train policies that mend toxicity classifiers at once."""

    worlds: tuple[World, ...] = ("mask", "shift")
    """Policies that scale the weights (mask), add to them (shift), or both in turn."""
    training_networks: Networks = 16
    """Classifiers to train the policy on."""
    updates: Count = 200
    """Updates of PPO for each policy."""
    seeds: Networks = 10
    """New classifiers to edit."""
    budget: Evaluations = 100
    """Reward evaluations of the adaptation of the policy's edit."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        check_training_seeds(self, self.training_networks)
        super().check()
