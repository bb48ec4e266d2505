"""Options of the tuning of the searches for bias mitigation."""

from dataclasses import dataclass

from experiments.bias_mitigation.config import CommentOptions
from experiments.common.options import MethodOptions


@dataclass(frozen=True)
class TuneConfig(MethodOptions, CommentOptions):
    """Tune the searches of the bias-mitigation experiment."""

    budget: int = 10_000
    """Reward evaluations of each search on each task."""
    seed: int = 100
    """First seed; keep it away from the experiment's."""
