"""Options of the ablation of RLEdit."""

from dataclasses import dataclass
from typing import Literal

from experiments.lifelong_editing.config import FactOptions

Question = Literal["updates", "size", "memory", "past", "accumulator"]


@dataclass(frozen=True)
class AblationConfig(FactOptions):
    """Vary RLEdit one part at a time."""

    questions: tuple[Question, ...] = Question.__args__  # type: ignore[attr-defined]
    """Which parts to vary: the number of meta-updates, the L2 term on the size of a change, the
    batches in memory, the weight of past batches, the dtype of the edited weights."""
