"""Options of the transfer experiment."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.common.options import RunOptions, World, check_at_least

Data = Literal["digits", "mnist", "fashion_mnist"]
Part = Literal["zero-shot", "adaptation", "sequence", "cost"]
SHAPE = "kind-widths, e.g. mlp-128x32 or cnn-128x32; then, if you like, -gelu or -tanh, and -20ep"


@dataclass(frozen=True)
class Config(RunOptions):
    """Train policies that edit at once, and see how far they carry."""

    dataset: Data = "digits"
    """Data of the networks; digits is embedded."""
    worlds: tuple[World, ...] = ("shift", "mask")
    """Policies to train."""
    parts: tuple[Part, ...] = ("zero-shot", "adaptation", "sequence", "cost")
    """What to measure."""
    held_out: str = "4,7"
    """Classes no training task asks for, one policy for each; 'all': every class in turn."""
    networks: tuple[str, ...] = ("mlp-128x32",)
    """Shapes of the networks to train on: kind-widths, where fc2 is edited. Two more parts may
    follow, the activation (-gelu, -tanh) and the epochs of the training (-20ep)."""
    other_networks: tuple[str, ...] = (
        "mlp-64x16",
        "mlp-64x32",
        "mlp-256x64",
        "mlp-512x128",
        "cnn-128x32",
    )
    """Shapes that are edited only."""
    other_data: tuple[Data, ...] = ()
    """Data sets whose networks (of the first shape) are edited only."""
    pairs: int = 0
    """Pairs of classes that each network to train on is asked to forget, beside single classes."""
    training_networks: int = 16
    """Networks of each shape to train on."""
    seeds: int = 5
    """New networks of each shape to edit."""
    updates: int = 400
    """Updates of PPO for each policy."""
    sequence_updates: int = 200
    """Further updates, on requests one after another."""
    budgets: tuple[int, ...] = (10, 100, 1000)
    """Reward evaluations of the adaptation of a policy's edit."""
    search_budget: int = 2000
    """Reward evaluations of the searches that policies are compared with."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        check_at_least(self, training_networks=1, updates=1, search_budget=1)
        if min(self.sequence_updates, self.pairs) < 0 or min(self.budgets, default=1) < 1:
            raise ValueError(
                "--sequence-updates and --pairs must not be negative, --budgets must be at least 1"
            )
        for name in ("worlds", "parts", "networks", "other_networks", "other_data", "budgets"):
            check_distinct(name, getattr(self, name))
        if self.dataset in self.other_data:
            raise ValueError(f"--other-data {self.dataset} is --dataset itself: name other data")
        for shape in (*self.networks, *self.other_networks):
            read_shape(shape)
        if self.held_out != "all":
            check_distinct("held_out", read_classes(self.held_out))
        super().check()

    def factors(self, part: str, **others: Any) -> dict[str, Any]:
        """Factors of a row: the part, data and network, those of the experiment if not given."""
        return {"part": part, "data": self.dataset, "network": self.networks[0], **others}


def check_distinct(option: str, values: Sequence[Any]) -> None:
    """Raises ValueError if a value is named twice."""
    if len(set(values)) < len(values):
        twice = next(value for value in values if list(values).count(value) > 1)
        raise ValueError(f"--{option.replace('_', '-')} names {twice} twice: name it once")


@dataclass(frozen=True)
class Shape:
    """A kind of network: ``"mlp"`` or ``"cnn"``, and how it is trained (None: by its recipe)."""

    kind: str
    hidden: tuple[int, ...]
    activation: str = "relu"
    epochs: int | None = None


def read_shape(text: str) -> Shape:
    """Reads ``mlp-128x32`` as ``Shape("mlp", (128, 32))``; `SHAPE` says what else it may hold.

    Raises:
      ValueError: it is no such text, or there are fewer than two widths.
    """
    found = re.fullmatch(r"(mlp|cnn)-(\d+(?:x\d+)+)(?:-(gelu|tanh))?(?:-([1-9]\d*)ep)?", text)
    if found is None:
        raise ValueError(f"the shape {text!r} is not understood: give {SHAPE}; two widths or more")
    kind, widths, activation, epochs = found.groups()
    hidden = tuple(map(int, widths.split("x")))
    return Shape(kind, hidden, activation or "relu", int(epochs) if epochs else None)


def read_classes(text: str) -> list[int]:
    """Reads classes joined by commas.

    Raises:
      ValueError: it is no such text.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--held-out must be classes like 4,7 or 'all', got {text!r}") from None
