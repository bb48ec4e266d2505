"""Options of the tuning of the methods for unlearning."""

from dataclasses import dataclass
from typing import ClassVar

from experiments.common.checks import Networks, Seed
from experiments.common.options import MethodOptions
from experiments.unlearning.config import ForgetOptions


@dataclass(frozen=True)
class TuneConfig(MethodOptions, ForgetOptions):
    """Tune the methods of the unlearning experiment."""

    default_class: ClassVar[str] = "all"

    forget_class: str | None = None
    """As in the experiment; default, without --forget-samples: all."""
    seeds: Networks = 1
    """Networks."""
    seed: Seed = 100
    """First seed; keep it away from the experiment's."""
