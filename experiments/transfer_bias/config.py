"""Options of the transfer experiment on toxicity classifiers."""

from dataclasses import dataclass

from experiments.bias_mitigation.config import CommentOptions
from experiments.common.options import World, check_at_least


@dataclass(frozen=True)
class Config(CommentOptions):
    """Train policies that mend toxicity classifiers at once."""

    worlds: tuple[World, ...] = ("mask", "shift")
    """Policies that scale the weights (mask), add to them (shift), or both in turn."""
    training_networks: int = 16
    """Classifiers to train the policy on."""
    updates: int = 200
    """Updates of PPO for each policy."""
    seeds: int = 10
    """New classifiers to edit."""
    budget: int = 100
    """Reward evaluations of the adaptation of the policy's edit."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        check_at_least(self, training_networks=1, updates=1, budget=1)
        super().check()
