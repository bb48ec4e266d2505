"""Options of the unlearning experiment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.common.options import SearchOptions, SubjectOptions, import_reward


@dataclass(frozen=True)
class ForgetOptions(SubjectOptions):
    """Options of every experiment that makes image classifiers forget."""

    dataset: Literal["digits", "mnist", "fashion_mnist", "npz"] = "digits"
    """Data set; digits is embedded, the others are downloaded or read from MODELEDIT_DATA_DIR."""
    npz_path: Path | None = None
    """With --dataset npz: your arrays x, y and optionally x_test, y_test."""
    subject: Literal["mlp", "cnn"] = "mlp"
    """Network to edit: … → 128 → 32 → classes."""
    forget_class: str = "7"
    """A class; several joined by commas, forgotten together; or 'all': every class in turn."""
    forget_samples: tuple[int, ...] = ()
    """Rows of the training set to forget, instead of a class."""
    reward: str = "soft"
    """soft (probabilities), accuracy, or a function f(sets, edit) of yours as module:name."""
    edit_size_penalty: float = 0.0
    """Weight of the relative edit size in the built-in rewards."""

    def check(self) -> None:
        """As `SubjectOptions.check`."""
        if (self.dataset == "npz") != (self.npz_path is not None):
            raise ValueError("--dataset npz and --npz-path go together: give both or neither")
        super().check()


@dataclass(frozen=True)
class Config(SearchOptions, ForgetOptions):
    """Forget classes of a trained image classifier by editing one layer."""

    retrains: int = 2
    """Networks retrained without what is to be forgotten, per task; 2 show the noise floor."""

    def check(self) -> None:
        """As `SearchOptions.check` and `ForgetOptions.check`."""
        if self.retrains < 1:
            raise ValueError("--retrains must be at least 1: Tug-of-War compares with a retraining")
        super().check()


def reward_function(config: ForgetOptions) -> Any:
    """Returns the built-in reward of that name, or imports the user's function.

    Raises:
      ValueError: neither; the message says what is expected.
    """
    if ":" in config.reward:
        return import_reward(config.reward)
    from modeledit_jax.tasks.unlearning import REWARD_KINDS, unlearning_reward

    if config.reward not in REWARD_KINDS:
        known = ", ".join(REWARD_KINDS)
        raise ValueError(f"--reward must be {known} or module:function, got {config.reward!r}")
    return unlearning_reward(config.reward, edit_size=config.edit_size_penalty)
