"""Options of the ablation of PPO."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from experiments.common.checks import Networks
from experiments.common.options import ActionOptions, World
from experiments.unlearning.config import ForgetOptions

Question = Literal["ppo", "episode", "reward", "examples", "action"]


@dataclass(frozen=True)
class AblationConfig(ActionOptions, ForgetOptions):
    """Compare variants of PPO on the unlearning task."""

    default_class: ClassVar[str] = "all"
    may_change_on_resume: ClassVar[tuple[str, ...]] = ("questions",)  # variants are kept apart

    worlds: tuple[World, ...] = ("mask", "shift")
    """Scale the weights (mask), add to them (shift), or both in turn."""
    questions: tuple[Question, ...] = ("ppo", "episode", "reward", "examples", "action")
    """What varies: parts of PPO; edits of an episode and what is observed; form and weights of the
    reward; how many examples it has; the rank of actions."""
    forget_class: str | None = None
    """As in the experiment; default, without --forget-samples: all."""
    seeds: Networks = 2
    """Networks."""

    def check(self) -> None:
        """As `ForgetOptions.check`."""
        if "reward" in self.questions and (self.reward != "soft" or self.edit_size_penalty):
            raise ValueError(
                "--questions reward compares built-in rewards: leave out --reward and "
                "--edit-size-penalty, or name other questions"
            )
        super().check()
