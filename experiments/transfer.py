"""One policy edits networks and classes it never saw, without a reward evaluation.

python -m experiments.transfer
python -m experiments.transfer --dataset mnist --held-out all --other-data digits

Trains policies on many networks, each with one class never asked for, and lets them edit other
networks, of other widths and kinds, and networks trained on other data. ``--help`` lists all.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from experiments.options import RunOptions, World, command_line, guarded, resolve_run

Data = Literal["digits", "mnist", "fashion_mnist"]
Part = Literal["zero-shot", "adaptation", "sequence", "cost"]
SHAPE = "kind-widths, e.g. mlp-128x32 or cnn-128x32"


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
    """Shapes of the networks to train on: kind-widths, where fc2 is edited."""
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
    if config.sequence_updates < 0 or min(config.budgets, default=1) < 1:
        raise ValueError("--sequence-updates must not be negative, --budgets must be at least 1")
    for shape in (*config.networks, *config.other_networks):
        read_shape(shape)
    if config.held_out != "all":
        read_classes(config.held_out)
    return resolve_run(config, "transfer")


def read_shape(shape: str) -> tuple[str, tuple[int, ...]]:
    """Reads ``mlp-128x32`` as ``("mlp", (128, 32))``.

    Raises:
      ValueError: it is no such text, or there are fewer than two widths.
    """
    kind, _, widths = shape.partition("-")
    sizes = widths.split("x")
    if kind not in ("mlp", "cnn") or len(sizes) < 2 or not all(s.isdigit() for s in sizes):
        raise ValueError(
            f"the shape {shape!r} is not understood: give {SHAPE}, with two widths or more"
        )
    return kind, tuple(int(size) for size in sizes)


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
    return guarded(config, resolve, "experiments.transfer_run")


if __name__ == "__main__":
    command_line(Config, main, __doc__)
