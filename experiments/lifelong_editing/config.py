"""Options of the lifelong-editing experiment."""

from dataclasses import dataclass
from typing import Literal

from experiments.common.options import RunOptions, check_at_least

MethodName = Literal[
    "original",
    "ft-l",
    "ft-m",
    "mend",
    "malmen",
    "ultraedit",
    "rledit",
    "hiedit",
    "hiedit-ste",
    "random-k",
    "fixed-k",
    "top-norm-k",
]
ALL_METHODS: tuple[MethodName, ...] = MethodName.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Config(RunOptions):
    """Edit a long sequence of facts into a language model and see what it learns and forgets."""

    corpus: Literal["fact-world", "counterfact"] = "fact-world"
    """Facts: an embedded invented world, or CounterFact (files in MODELEDIT_DATA_DIR)."""
    methods: tuple[MethodName, ...] = ALL_METHODS
    """Editors to compare."""
    edits: int = 200
    """Facts edited, one batch after another."""
    batch_size: int = 10
    """Facts edited at once."""
    train_edits: int = 600
    """Facts, about other subjects, that learned editors are trained on."""
    modules: tuple[str, ...] = ("layers/*/mlp/down",)
    """Patterns of the linear layers that may be edited."""
    meta_updates: int = 300
    """Gradient steps of the training of every learned editor."""
    memory: int = 6
    """Batches, the latest included, that a change is judged by in the training of RLEdit."""
    fraction: float = 0.5
    """Share of the modules that HiEdit and its controls change at once."""
    first: int | None = None
    """Edits from the start that retention is measured on; default: a quarter of all."""
    width: int = 128
    """Of the language model, of four heads."""
    mlp_width: int = 1_536
    """Hidden units of each of its MLPs; what can be edited in one shot grows with them."""
    layers: int = 2
    """Of the language model."""
    steps: int = 700
    """Gradient steps that teach the language model its sentences, 128 at a time."""
    plain: int = 2_000
    """Sentences of fact-world that state no fact."""
    seeds: int = 1
    """Worlds with a language model each, trained from different seeds."""

    @property
    def retained(self) -> int:
        """Edits that retention is measured on."""
        return self.first or max(1, self.edits // 4)

    def check(self) -> None:
        """As `RunOptions.check`."""
        check_at_least(self, edits=1, batch_size=1, train_edits=1, meta_updates=1, memory=1)
        check_at_least(self, width=8, mlp_width=8, layers=1, steps=1, plain=1)
        if self.first is not None and not 1 <= self.first <= self.edits:
            raise ValueError(f"--first must be 1 … --edits = {self.edits}, got {self.first}")
        if self.width % 8:
            raise ValueError(f"--width must be a multiple of 8, got {self.width}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"--fraction must be above 0 and at most 1, got {self.fraction}")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError("--methods must name at least one method, each once")
        super().check()
