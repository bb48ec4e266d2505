"""Options of the unlearning experiment."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from experiments.common.checks import MAY_BE_EMPTY, Penalty, Range, check_distinct
from experiments.common.options import SearchOptions, SubjectOptions
from experiments.common.rewards import import_reward

Dataset = Literal["digits", "shapes", "textures", "mnist", "fashion_mnist", "cifar10", "npz"]
REWARDS = ("soft", "accuracy", "unseen")

SHARES = {"random": 0.1, "backdoor": 0.05, "confusion": 0.5}
"""Of the training samples that are forgotten, in the scenarios that have one."""
CLASSES = {"sub-class": "7", "backdoor": "7", "confusion": "3,5", "in-turn": "3,5,7"}
"""That the scenarios are about by default."""
NUMBERS = {"backdoor": (1, 1), "confusion": (2, 2), "in-turn": (2, math.inf)}
"""How many classes a scenario is about, at least and at most."""

Options = TypeVar("Options", bound="ForgetOptions")
Editors = TypeVar("Editors", bound="EditorOptions")


@dataclass(frozen=True)
class ForgetOptions(SubjectOptions):
    """Options of every experiment that makes image classifiers forget."""

    default_class: ClassVar[str] = "7"  # of `forget_class`

    dataset: Dataset = "digits"
    """Data set; digits is embedded, shapes and textures are drawn by rule, the others are
    downloaded or read from MODELEDIT_DATA_DIR."""
    npz_path: Path | None = None
    """With --dataset npz: your arrays x, y and optionally x_test, y_test."""
    subject: Literal["mlp", "cnn", "resnet", "resnet-batchnorm"] = "mlp"
    """Network to edit: … → 128 → 32 → classes. A resnet has group normalization."""
    forget_class: str | None = None
    """A class; several joined by commas, forgotten together; or 'all': every class in turn.
    Default, without --forget-samples: 7."""
    forget_samples: Annotated[
        tuple[Annotated[int, Range(0, 1_000_000_000)], ...], MAY_BE_EMPTY
    ] = ()
    """Rows of the training set to forget, instead of a class."""
    reward: str = "soft"
    """soft (probabilities), accuracy, unseen (to know what is forgotten as well as held-out
    examples, for single samples), or a function f(sets, edit) of yours as module:name."""
    edit_size_penalty: Penalty = 0.0
    """Weight of the relative edit size in the built-in rewards."""

    def check(self) -> None:
        """As `SubjectOptions.check`."""
        if (self.dataset == "npz") != (self.npz_path is not None):
            raise ValueError("--dataset npz and --npz-path go together: give both or neither")
        if self.forget_samples and self.forget_class is not None:
            raise ValueError(
                f"--forget-class {self.forget_class} and --forget-samples ask for two things: "
                "give one of them"
            )
        if not self.forget_samples:
            self.requests()
        if ":" not in self.reward and self.reward not in REWARDS:
            raise ValueError(
                f"--reward must be {', '.join(REWARDS)} or module:function, got {self.reward!r}"
            )
        if ":" in self.reward and self.edit_size_penalty:
            raise ValueError(
                f"--edit-size-penalty is about the rewards {', '.join(REWARDS)}: leave it out with "
                "a function of yours, which may use edit.size()"
            )
        super().check()

    def completed(self: Options) -> Options:
        """As `RunOptions.completed`, with the class that is forgotten by default."""
        options = super().completed()
        if options.forget_class is not None or options.forget_samples:
            return options
        return replace(options, forget_class=self.default_class)

    def requests(self, num_classes: int | None = None) -> list[tuple[int, ...]]:
        """The classes of each task, as ``--forget-class`` says.

        Args:
          num_classes: of the data; None: they are not known yet.

        Raises:
          ValueError: not 'all' and no integers, one twice, one that the data lack, or all of them.
        """
        text = self.forget_class or self.default_class
        if text == "all":
            return [(index,) for index in range(num_classes or 0)]
        try:
            chosen = tuple(int(part) for part in text.split(","))
        except ValueError:
            raise ValueError(
                f"--forget-class must be a class, classes joined by commas, or 'all'; got {text!r}"
            ) from None
        check_distinct("--forget-class", chosen)
        if num_classes is not None:
            outside = [index for index in chosen if not 0 <= index < num_classes]
            if outside or len(chosen) == num_classes:
                raise ValueError(
                    f"--forget-class {text}: the classes are 0 to {num_classes - 1}; choose at "
                    "least one and not all of them, or 'all': every class in turn"
                )
        return [chosen]


@dataclass(frozen=True)
class EditorOptions(SearchOptions, ForgetOptions):
    """Options of every experiment that compares editors with retrained networks."""

    scenario: Literal["classes", "random", "sub-class", "backdoor", "confusion", "in-turn"] = (
        "classes"
    )
    """What is forgotten: classes; random samples; one label of a class that is a pair of them; a
    backdoor, whose target is --forget-class; two classes' swapped labels; or classes in turn."""
    forget_share: Annotated[float, Range(0, 1)] | None = None
    """Of the training samples, in the scenarios random (default 0.1), backdoor (0.05) and
    confusion (0.5)."""
    retrains: Annotated[int, Range(1, 1_000)] = 2
    """Networks retrained without what is to be forgotten, per task; 2 show the noise floor."""
    prototype_penalty: Penalty = 0.0
    """Weight in the reward of what the last layer reads that still tells a class apart."""
    relearning_penalty: Penalty = 0.0
    """Weight in the reward of what a gradient step on a class would bring back of it."""
    penalized_layers: Annotated[int, Range(1, 1_000)] = 1
    """Last layers whose inputs the penalties look at, of those that an edit may change."""
    toward_retrain: bool = False
    """Reward searches for being as the last of the retrained networks is, and take its inside as
    the goal of penalties: what could be reached where there is such a network."""
    scope: Literal["site", "network"] = "site"
    """What methods by gradients may change: the parameters of --site, as searches do, or all."""

    def completed(self: Editors) -> Editors:
        """As `ForgetOptions.completed`, with the classes that a scenario is about by default."""
        if self.forget_class is None and self.scenario in CLASSES:
            return replace(self, forget_class=CLASSES[self.scenario]).completed()
        completed = super().completed()
        if self.scenario == "random":
            return replace(completed, forget_class=self.forget_class)
        return completed

    def check(self) -> None:
        """As `ForgetOptions.check`."""
        single = self.forget_samples or self.scenario not in ("classes", "in-turn")
        if single and (self.prototype_penalty or self.relearning_penalty):
            raise ValueError(
                "--prototype-penalty and --relearning-penalty are about classes: leave them out "
                "with --forget-samples and the scenarios of single samples"
            )
        if self.toward_retrain and (self.reward != "soft" or self.edit_size_penalty):
            raise ValueError(
                "--toward-retrain is a reward of its own: leave out --reward and "
                "--edit-size-penalty"
            )
        if self.toward_retrain and self.retrains < 2:
            raise ValueError(
                f"--retrains {self.retrains}: edits are measured against the first and rewarded "
                "for being as the last, ask for at least 2 with --toward-retrain"
            )
        self._check_scenario()
        super().check()

    def _check_scenario(self) -> None:
        """Raises ValueError for options that the scenario does not go with."""
        name = f"--scenario {self.scenario}"
        if self.forget_samples and self.scenario != "classes":
            raise ValueError(f"{name} says what is forgotten: leave out --forget-samples")
        if self.forget_share is not None and self.scenario not in SHARES:
            raise ValueError(
                f"--forget-share is about the scenarios {', '.join(SHARES)}: leave it out with "
                f"{name}"
            )
        if self.forget_share in (0.0, 1.0):
            raise ValueError(f"--forget-share must lie between 0 and 1, got {self.forget_share:g}")
        if self.scenario == "random" and self.forget_class is not None:
            raise ValueError(f"{name} draws from all classes: leave out --forget-class")
        if self.scenario in NUMBERS:
            least, most = NUMBERS[self.scenario]
            number = sum(map(len, self.requests()))  # none of 'all'
            if not least <= number <= most:
                wanted = f"{least} or more classes" if most > least else f"{least} class(es)"
                raise ValueError(
                    f"{name} is about {wanted}, joined by commas: got --forget-class "
                    f"{self.forget_class}"
                )
        if self.scenario == "in-turn" and self.horizon > 1:
            raise ValueError(f"{name} edits once for each class: leave out --horizon")


@dataclass(frozen=True)
class Config(EditorOptions):
    """Forget classes of a trained image classifier by editing one layer."""

    deep_metrics: bool = False
    """Measure as well what is left inside of the networks: prototypes, relearning, membership."""


def reward_function(config: ForgetOptions) -> Any:
    """Returns the built-in reward of that name, or imports the user's function.

    Raises:
      ValueError: it cannot be imported; the message says what was found.
    """
    if ":" in config.reward:
        return import_reward(config.reward)
    from modeledit_jax.tasks.unlearning import unlearning_reward

    return unlearning_reward(config.reward, edit_size=config.edit_size_penalty)
