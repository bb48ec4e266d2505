"""Options of the ablation of PPO."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.common.checks import Networks
from experiments.common.options import ActionOptions, World
from experiments.unlearning.config import ForgetOptions


@dataclass(frozen=True)
class AblationConfig(ActionOptions, ForgetOptions):
    """Compare variants of PPO on the unlearning task."""

    default_class: ClassVar[str] = "all"

    worlds: tuple[World, ...] = ("mask", "shift")
    """Scale the weights (mask), add to them (shift), or both in turn."""
    forget_class: str | None = None
    """As in the experiment; default, without --forget-samples: all."""
    seeds: Networks = 2
    """Networks."""
