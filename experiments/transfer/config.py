"""One policy edits networks and classes it never saw, without a reward evaluation.

python -m experiments.transfer
python -m experiments.transfer --dataset mnist --held-out all --other-data digits

Trains policies on many networks, each with one class never asked for, and lets them edit other
networks, of other widths and kinds, and networks trained on other data. ``--help`` lists all.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.common.options import RunOptions, World, guarded, resolve_run

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
    run_dir: Path | None = field(default=None)
    """Folder of the run; default: a new one in runs/."""


def resolve(config: Config) -> Config:
    """Checks the options.

    Raises:
      ValueError: an option out of range; the message names the cure.
    """
    for name in ("training_networks", "updates", "search_budget"):
        if getattr(config, name) < 1:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} must be at least 1, got {getattr(config, name)}")
    if min(config.sequence_updates, config.pairs) < 0 or min(config.budgets, default=1) < 1:
        raise ValueError(
            "--sequence-updates and --pairs must not be negative, --budgets must be at least 1"
        )
    for shape in (*config.networks, *config.other_networks):
        read_shape(shape)
    if config.held_out != "all":
        read_classes(config.held_out)
    return resolve_run(config, "transfer")


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


def main(config: Config) -> int:
    """Runs the experiment; returns the exit code."""
    return guarded(config, resolve, "experiments.transfer.run")
