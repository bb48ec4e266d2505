"""Options of the unlearning experiment."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from experiments.common.checks import MAY_BE_EMPTY, Range, check_distinct
from experiments.common.options import SearchOptions, SubjectOptions
from experiments.common.rewards import import_reward

REWARDS = ("soft", "accuracy")
LARGEST_PENALTY = 1_000_000

Options = TypeVar("Options", bound="ForgetOptions")


@dataclass(frozen=True)
class ForgetOptions(SubjectOptions):
    """Options of every experiment that makes image classifiers forget."""

    default_class: ClassVar[str] = "7"  # of `forget_class`

    dataset: Literal["digits", "mnist", "fashion_mnist", "npz"] = "digits"
    """Data set; digits is embedded, the others are downloaded or read from MODELEDIT_DATA_DIR."""
    npz_path: Path | None = None
    """With --dataset npz: your arrays x, y and optionally x_test, y_test."""
    subject: Literal["mlp", "cnn"] = "mlp"
    """Network to edit: … → 128 → 32 → classes."""
    forget_class: str | None = None
    """A class; several joined by commas, forgotten together; or 'all': every class in turn.
    Default, without --forget-samples: 7."""
    forget_samples: Annotated[
        tuple[Annotated[int, Range(0, 1_000_000_000)], ...], MAY_BE_EMPTY
    ] = ()
    """Rows of the training set to forget, instead of a class."""
    reward: str = "soft"
    """soft (probabilities), accuracy, or a function f(sets, edit) of yours as module:name."""
    edit_size_penalty: Annotated[float, Range(0, LARGEST_PENALTY)] = 0.0
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

    retrains: Annotated[int, Range(1, 1_000)] = 2
    """Networks retrained without what is to be forgotten, per task; 2 show the noise floor."""
    prototype_penalty: Annotated[float, Range(0, LARGEST_PENALTY)] = 0.0
    """Weight in the reward of what the last layer reads that still tells a class apart."""
    relearning_penalty: Annotated[float, Range(0, LARGEST_PENALTY)] = 0.0
    """Weight in the reward of what a gradient step on a class would bring back of it."""
    scope: Literal["site", "network"] = "site"
    """What methods by gradients may change: the parameters of --site, as searches do, or all."""

    def check(self) -> None:
        """As `ForgetOptions.check`."""
        if self.forget_samples and (self.prototype_penalty or self.relearning_penalty):
            raise ValueError(
                "--prototype-penalty and --relearning-penalty are about classes: leave them out "
                "with --forget-samples"
            )
        super().check()


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
