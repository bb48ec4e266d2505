"""Options of the ablation of PPO."""

from dataclasses import dataclass

from experiments.unlearning.config import Config


@dataclass(frozen=True)
class AblationConfig(Config):
    """Compare variants of PPO on the unlearning task."""

    forget_class: str = "all"
    """As in the experiment."""
    seeds: int = 2
    """Networks."""
