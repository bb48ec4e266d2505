"""Options of the tuning."""

from dataclasses import dataclass
from typing import Literal

from experiments.common.checks import Seed
from experiments.lifelong_editing.config import FactOptions, Facts, LessonFacts

TunedName = Literal["ft-l", "ft-m", "ultraedit", "mend", "malmen", "rledit"]


@dataclass(frozen=True)
class TuneConfig(FactOptions):
    """Tune the methods of the lifelong-editing experiment."""

    methods: tuple[TunedName, ...] = TunedName.__args__  # type: ignore[attr-defined]
    """Methods to tune."""
    edits: Facts = 1_000
    """Facts edited, one batch after another."""
    train_edits: LessonFacts = 1_000
    """Facts, about other subjects, that learned methods are trained on."""
    seed: Seed = 100
    """First seed; keep it away from the experiment's."""
