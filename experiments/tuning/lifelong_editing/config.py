"""Options of the tuning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from experiments.common.checks import Seed
from experiments.lifelong_editing.config import ClosedFormOptions, Facts, LessonFacts

TunedName = Literal[
    "ft-l",
    "ft-m",
    "ultraedit",
    "mend",
    "malmen",
    "rledit",
    "memit",
    "memit-seq",
    "emmet",
    "alphaedit",
    "nas",
    "memit-amortized",
    "alphaedit-amortized",
    "memit-joint",
    "alphaedit-joint",
    "ultraedit-text",
]


@dataclass(frozen=True)
class TuneConfig(ClosedFormOptions):
    """Tune the methods of the lifelong-editing experiment."""

    tuning: ClassVar[bool] = True

    methods: tuple[TunedName, ...] | None = None
    """Methods to tune; default: all, the closed-form ones with --model alone."""
    edits: Facts = 1_000
    """Facts edited, one batch after another."""
    train_edits: LessonFacts = 1_000
    """Facts, about other subjects, that learned methods are trained on."""
    seed: Seed = 100
    """First seed; keep it away from the experiment's."""
