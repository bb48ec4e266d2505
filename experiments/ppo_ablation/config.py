"""Options of the ablation of PPO."""

from dataclasses import dataclass

from experiments.common.options import ActionOptions, World
from experiments.unlearning.config import ForgetOptions


@dataclass(frozen=True)
class AblationConfig(ActionOptions, ForgetOptions):
    """Compare variants of PPO on the unlearning task."""

    worlds: tuple[World, ...] = ("mask", "shift")
    """Scale the weights (mask), add to them (shift), or both in turn."""
    forget_class: str = "all"
    """As in the experiment."""
    seeds: int = 2
    """Networks."""
