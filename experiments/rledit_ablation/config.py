"""Options of the ablation of RLEdit."""

from dataclasses import dataclass
from typing import Literal

from experiments.lifelong_editing.config import Config

Question = Literal["updates", "size", "memory", "past", "accumulator"]


@dataclass(frozen=True)
class QuestionConfig(Config):
    """Vary RLEdit one part at a time."""

    questions: tuple[Question, ...] = Question.__args__  # type: ignore[attr-defined]
    """Which to ask."""
