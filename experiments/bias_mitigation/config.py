"""Options of the bias-mitigation experiment."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from experiments.common.checks import Evaluations, Range
from experiments.common.options import SEARCHES, SearchOptions, SubjectOptions
from experiments.common.rewards import import_reward

COMPARED = (
    "clp",
    "mindiff",
    "leace",
    "inlp",
    "last-layer-refit",
    "neuron-ablation",
    "random-edit",
    "dixon-rebalancing",
    "reweighing",
    "other-seed",
)
"""Presets of other editors of the same layer, and of networks trained anew."""
REWARDS = ("fairness", "rates", "fped")


@dataclass(frozen=True)
class CommentOptions(SubjectOptions):
    """Options of every experiment about toxicity classifiers."""

    dataset: Literal["synthetic", "jigsaw", "wikipedia_toxicity", "civil_comments"] = "synthetic"
    """Comments; synthetic is embedded, others are downloaded or read from MODELEDIT_DATA_DIR."""
    subject: Literal["boe", "cnn"] = "boe"
    """Network to edit: bag of embeddings or convolutions, then 128 → 32 → 1."""
    size: Annotated[int, Range(200, 10_000_000, "comments")] = 20_000
    """Comments of the class-balanced subset (all but synthetic)."""
    cues: Annotated[float, Range(0, 4)] = 1.8
    """Of the synthetic comments: mean number of further cue clauses; fewer make identities tell."""
    reward: str = "fairness"
    """fairness, rates or fped (two examples of what goes wrong), or module:name of a function."""

    def check(self) -> None:
        """As `SubjectOptions.check`."""
        if self.dataset == "synthetic" and self.size != CommentOptions.size:
            raise ValueError("--size is about published comments: leave it out with synthetic ones")
        if self.dataset != "synthetic" and self.cues != CommentOptions.cues:
            raise ValueError(
                f"--cues is about synthetic comments: leave it out with {self.dataset}"
            )
        if ":" not in self.reward and self.reward not in REWARDS:
            raise ValueError(
                f"--reward must be {', '.join(REWARDS)} or module:function, got {self.reward!r}"
            )
        super().check()


@dataclass(frozen=True)
class Config(SearchOptions, CommentOptions):
    """Reduce the identity bias of a trained toxicity classifier by editing one layer."""

    joins_processes: ClassVar[bool] = False

    budget: Evaluations = 4000
    """Reward evaluations of each search on each task."""
    methods: tuple[str, ...] = (*SEARCHES, *COMPARED)
    """Methods to compare: presets by name, or paths of TOML files of your own."""


def reward_function(config: CommentOptions) -> Any:
    """The name of a built-in reward, or the user's function."""
    return import_reward(config.reward) if ":" in config.reward else config.reward
