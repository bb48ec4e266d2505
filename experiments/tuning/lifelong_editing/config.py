"""Options of the tuning."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from experiments.common.checks import Seed
from experiments.lifelong_editing.config import Contexts, FactOptions, Facts, LessonFacts

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
class TuneConfig(FactOptions):
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
    contexts: Contexts | None = None
    """Texts sampled from the model, in front of the prompt, that closed-form methods edit under
    besides the prompt alone; default: those of the preset, 5. Each costs as much as the prompt."""
