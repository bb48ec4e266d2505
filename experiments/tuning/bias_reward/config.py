"""Options of the choice of the reward's weights."""

from dataclasses import dataclass, replace
from typing import Literal

from experiments.bias_mitigation.config import FIDELITY_WEIGHTS, CommentOptions
from experiments.common.checks import Evaluations, Networks, Penalty, Seed, option_name
from experiments.common.options import MethodOptions


@dataclass(frozen=True)
class WeightsConfig(MethodOptions, CommentOptions):
    """Try weights of the reward fidelity on real comments."""

    dataset: Literal["jigsaw", "wikipedia_toxicity"] = "jigsaw"
    """Comments, downloaded or read from MODELEDIT_DATA_DIR."""
    contexts: Literal["real"] | None = None
    """Counterfactuals: real contexts."""
    try_pairing: tuple[Penalty, ...] = (1.0, 3.0, 5.0, 10.0)
    """Weights of the spread that terms cause."""
    try_term_rates: tuple[Penalty, ...] = (60.0,)
    """Weights of terms' differences in error rates."""
    try_block_mean: tuple[Penalty, ...] = (5.0,)
    """Weights of what moves the mean of a context; all combinations are tried."""
    methods: tuple[str, ...] = ("reward-gradient",)
    """Editors that maximize the reward: presets by name, or paths of TOML files of your own."""
    budget: Evaluations = 32_000
    """Reward evaluations of each search on each task."""
    seeds: Networks = 2
    """Networks trained from different seeds, each edited."""
    seed: Seed = 100
    """First seed; keep it away from the experiment's."""

    def check(self) -> None:
        """As `CommentOptions.check`; options that would not be read are refused."""
        super().check()
        if self.reward != "fidelity":
            raise ValueError(f"--reward {self.reward}: the weights tried are those of fidelity")
        for name in FIDELITY_WEIGHTS:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{option_name(name)} is one weight: give those to try with "
                    f"{option_name(f'try_{name}')}"
                )

    def weighted(self, weights: dict[str, float]) -> "WeightsConfig":
        """The options under weights of the reward."""
        return replace(self, **weights)  # type: ignore[arg-type]
