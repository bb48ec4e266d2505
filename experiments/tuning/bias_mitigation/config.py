"""Options of the tuning of the searches for bias mitigation."""

from dataclasses import dataclass

from experiments.bias_mitigation.config import CommentOptions
from experiments.common.checks import Evaluations, Seed
from experiments.common.options import MethodOptions


@dataclass(frozen=True)
class TuneConfig(MethodOptions, CommentOptions):
    """Tune the searches of the bias-mitigation experiment."""

    budget: Evaluations = 10_000
    """Reward evaluations of each search on each task."""
    seed: Seed = 100
    """First seed; keep it away from the experiment's."""
