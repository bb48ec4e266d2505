"""Options of the bias-mitigation experiment."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from experiments.common.checks import Evaluations, Penalty, Range, option_name
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
REAL_COMPARED = (
    "reward-gradient",
    "clp",
    "mindiff",
    "leace",
    "last-layer-refit",
    "random-edit",
    "dixon-retraining",
    "counterfactual-retraining",
    "other-seed",
)
"""The same on real comments with contexts of their own."""
FIDELITY_WEIGHTS = ("pairing", "term_rates", "block_mean")
"""Parts of the reward fidelity whose weights are options."""
REWARDS = ("fairness", "fidelity", "rates", "fped")
LANGUAGE_MODEL = "language_model"
"""Begins the path of what belongs to the language model, ``language_model/down/kernel``
(`subjects.state_classifier`)."""
PUBLISHED = ("jigsaw", "wikipedia_toxicity")
"""Data sets that contexts are made of."""


@dataclass(frozen=True)
class CommentOptions(SubjectOptions):
    """Options of every experiment about toxicity classifiers."""

    dataset: Literal["synthetic", "jigsaw", "wikipedia_toxicity", "civil_comments"] = "synthetic"
    """Comments; synthetic is embedded, others are downloaded or read from MODELEDIT_DATA_DIR."""
    contexts: Literal["real", "swapped"] | None = None
    """Counterfactuals of published comments: real contexts (all comments, their own places for
    terms, suites; default where they can be made), or single words swapped in a class-balanced
    subset (default of civil_comments)."""
    subject: Literal["boe", "cnn", "hidden"] | None = None
    """Network to edit: bag of embeddings, convolutions, or hidden states of a language model, then
    128 → 32 → 1; default: hidden with real contexts, otherwise boe."""
    model: Path | None = None
    """Of hidden: a Hugging Face folder; default: smollm2-135m, taken from the network once."""
    layer: Annotated[int, Range(0, 10_000)] = 4
    """Of hidden: layers of the language model that are run; 0: the mean of its token embeddings."""
    pooling: Literal["mean", "last"] = "mean"
    """Of hidden: over the tokens of a comment."""
    tokens: Annotated[int, Range(1, 100_000, "token")] = 32
    """Of hidden: tokens of a comment; longer ones are cut."""
    size: Annotated[int, Range(200, 10_000_000, "comments")] = 20_000
    """Comments that are used, at most (all but synthetic)."""
    balanced: bool = False
    """As many harmless comments as toxic ones, the protocol of Malik 2026 (real contexts)."""
    folds: tuple[Annotated[int, Range(0, 2)], ...] = (0, 1, 2)
    """Thirds of the identity terms that are held out in turn (real contexts)."""
    cues: Annotated[float, Range(0, 4)] = 1.8
    """Of the synthetic comments: mean number of further cue clauses; fewer make identities tell."""
    reward: str | None = None
    """fairness, fidelity, rates or fped (two examples of what goes wrong), or module:name of a
    function; default: fidelity with real contexts, otherwise fairness."""
    pairing: Penalty | None = None
    """Of the reward fidelity: weight of the spread that terms cause; default: its own, 5."""
    term_rates: Penalty | None = None
    """Of the reward fidelity: weight of terms' differences in error rates; default: its own, 60."""
    block_mean: Penalty | None = None
    """Of the reward fidelity: weight of what moves the mean of a context; default: its own, 5."""

    def completed(self: "Comments") -> "Comments":
        """The options with the defaults that depend on others."""
        found = super().completed()
        contexts = found.contexts
        if contexts is None and found.dataset != "synthetic":
            contexts = "real" if found.dataset in PUBLISHED else "swapped"
        real = contexts == "real"
        return replace(
            found,
            contexts=contexts,
            subject=found.subject or ("hidden" if real else "boe"),
            reward=found.reward or ("fidelity" if real else "fairness"),
        )

    @property
    def real(self) -> bool:
        """Whether counterfactuals are real contexts."""
        return self.contexts == "real"

    @property
    def edits_model(self) -> bool:
        """Whether the site is, in part at least, in the language model under the classifier."""
        return any(pattern.startswith(LANGUAGE_MODEL) for pattern in self.site)

    def check(self) -> None:
        """As `SubjectOptions.check`."""
        if self.dataset == "synthetic" and self.size != CommentOptions.size:
            raise ValueError("--size is about published comments: leave it out with synthetic ones")
        if self.dataset != "synthetic" and self.cues != CommentOptions.cues:
            raise ValueError(
                f"--cues is about synthetic comments: leave it out with {self.dataset}"
            )
        if self.real and self.dataset not in PUBLISHED:
            raise ValueError(
                f"--contexts real: none are made of {self.dataset}; use {' or '.join(PUBLISHED)}"
            )
        self._check_reward()
        _refuse_unread(self, not self.real, "real contexts", ("balanced", "folds"))
        if self.subject == "hidden" and not self.real:
            raise ValueError("--subject hidden reads whole texts: use it with --contexts real")
        of_hidden = ("model", "layer", "pooling", "tokens")
        _refuse_unread(self, self.subject != "hidden", "--subject hidden", of_hidden)
        if self.edits_model and (self.subject != "hidden" or not self.layer):
            raise ValueError(
                f"--site {' '.join(self.site)}: a classifier on hidden states has a language model "
                "under it (--subject hidden, --layer 1 or more)"
            )
        super().check()

    def _check_reward(self) -> None:
        reward = str(self.reward)
        if ":" not in reward and reward not in REWARDS:
            raise ValueError(
                f"--reward must be {', '.join(REWARDS)} or module:function, got {reward!r}"
            )
        for name in FIDELITY_WEIGHTS:
            if getattr(self, name) is not None and reward != "fidelity":
                raise ValueError(
                    f"{option_name(name)} is a weight of --reward fidelity: leave it out with "
                    "other rewards"
                )


Comments = TypeVar("Comments", bound=CommentOptions)


def _refuse_unread(
    options: CommentOptions, unread: bool, reader: str, names: tuple[str, ...]
) -> None:
    """Raises ValueError if an option is set that nothing would read."""
    defaults = {f.name: f.default for f in fields(options)}
    for name in names:
        if unread and getattr(options, name) != defaults[name]:
            raise ValueError(f"{option_name(name)} is about {reader}: leave it out otherwise")


@dataclass(frozen=True)
class Config(SearchOptions, CommentOptions):
    """Reduce the identity bias of a trained toxicity classifier by editing one layer."""

    budget: Evaluations = 4000
    """Reward evaluations of each search on each task."""
    methods: tuple[str, ...] = (*SEARCHES, *COMPARED)
    """Methods to compare: presets by name, or paths of TOML files of your own; default with real
    contexts: other ones, see presets/bias_real."""

    def completed(self) -> "Config":
        """As `CommentOptions.completed`."""
        found = super().completed()
        if found.real and found.methods == Config.methods:
            return replace(found, methods=(*SEARCHES, *REAL_COMPARED))
        return found


def family_of(config: CommentOptions) -> str:
    """The family of presets."""
    return "bias_real" if config.real else "bias_mitigation"


def reward_function(config: CommentOptions) -> Any:
    """The name of a built-in reward, or the user's function."""
    reward = str(config.reward)
    return import_reward(reward) if ":" in reward else reward


def reward_weights(config: CommentOptions) -> dict[str, float] | None:
    """Weights of its parts that the command line has set."""
    found = {name: getattr(config, name) for name in FIDELITY_WEIGHTS}
    return {name: weight for name, weight in found.items() if weight is not None} or None
