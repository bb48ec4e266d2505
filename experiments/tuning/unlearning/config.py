"""Options of the tuning of the searches for unlearning."""

from dataclasses import dataclass

from experiments.common.options import MethodOptions
from experiments.unlearning.config import ForgetOptions


@dataclass(frozen=True)
class TuneConfig(MethodOptions, ForgetOptions):
    """Tune the searches of the unlearning experiment."""

    forget_class: str = "all"
    """As in the experiment."""
    seeds: int = 1
    """Networks."""
    seed: int = 100
    """First seed; keep it away from the experiment's."""
