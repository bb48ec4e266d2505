"""What RLEdit's parts are worth, each in a figure of its own: ``--help`` lists all.

    python -m experiments.rledit_ablation --edits 1000 --train-edits 1000 --seeds 3

Every variant edits the same facts into the same language models as `experiments.lifelong_editing`
and differs from ``rledit`` there in what its name says. What a router is worth, how it is best
trained, and how much is only the normalizer (``ultraedit``) is seen in that experiment's own
figures. Writes ``questions.md``, ``questions.json`` and the figures into the run folder.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.common.options import guarded
from experiments.lifelong_editing.config import Config, resolve

Question = Literal["updates", "size", "memory", "past", "accumulator"]


@dataclass(frozen=True)
class QuestionConfig(Config):
    """Vary RLEdit one part at a time."""

    questions: tuple[Question, ...] = Question.__args__  # type: ignore[attr-defined]
    """Which to ask."""
    run_dir: Path | None = field(default=Path("runs/lifelong-questions"))
    """Where everything is written."""


def main(config: QuestionConfig) -> int:
    """Runs all variants; returns the exit code."""
    return guarded(config, resolve, "experiments.rledit_ablation.run")
