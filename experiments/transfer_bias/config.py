"""The policy of `experiments.transfer` in a second domain: identity bias of toxicity classifiers.

    python -m experiments.transfer_bias

A policy is trained to mend some classifiers, with counterfactual comments of some identity terms,
and then edits other classifiers without a reward evaluation. It is judged on the terms it was
trained with and on terms that no reward has seen. ``--help`` lists all options.
"""

from dataclasses import dataclass, field
from pathlib import Path

from experiments.bias_mitigation.config import Config as BiasConfig
from experiments.bias_mitigation.config import resolve as resolve_bias
from experiments.common.options import guarded


@dataclass(frozen=True)
class Config(BiasConfig):
    """Train policies that mend toxicity classifiers at once."""

    training_networks: int = 16
    """Classifiers to train the policy on."""
    updates: int = 200
    """Updates of PPO for each policy."""
    seeds: int = 10
    """New classifiers to edit."""
    budget: int = 100
    """Reward evaluations of the adaptation of the policy's edit."""
    run_dir: Path | None = field(default=Path("runs/transfer-bias"))
    """Folder of the run."""


def resolve(config: Config) -> Config:
    """Checks the options.

    Raises:
      ValueError: an option out of range; the message names the cure.
    """
    for name in ("training_networks", "updates"):
        if getattr(config, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1, got {getattr(config, name)}")
    return resolve_bias(config)  # type: ignore[return-value]


def main(config: Config) -> int:
    """Runs the experiment; returns the exit code."""
    return guarded(config, resolve, "experiments.transfer_bias.run")
