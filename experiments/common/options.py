"""Options that the commands of the experiments share, and what is checked of them.

Light to import, so that ``--help`` and mistakes are instant.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

World = Literal["mask", "shift"]
SEARCHES = tuple(
    f"{search}-{world}"
    for world in ("mask", "shift")
    for search in ("ppo", "openes", "snes", "random-search")
)
"""Presets of all searches."""


@dataclass(frozen=True)
class RunOptions:
    """Options of every experiment."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ()  # names of options

    seeds: int = 3
    """Networks trained from different seeds, each edited."""
    seed: int = 0
    """First seed."""
    run_dir: Path | None = None
    """Folder of the run; default: a new one in runs/."""
    resume: bool = False
    """Continue the run in --run-dir."""
    cache_dir: Path | None = None
    """Where trained networks and data are kept; default: the user's cache folder."""

    def check(self) -> None:
        """Checks what can be checked before work starts.

        Raises:
          ValueError: an option out of range; the message names the cure.
        """
        check_at_least(self, seeds=1)
        if self.resume and self.run_dir is None:
            raise ValueError("--resume needs --run-dir: the folder of the run to continue")


@dataclass(frozen=True)
class SubjectOptions(RunOptions):
    """Options of every experiment that trains networks and edits some of their parameters."""

    site: tuple[str, ...] = ("fc2/kernel",)
    """Patterns of the parameters that may be edited."""
    epochs: int | None = None
    """Passes over the training data; default: a recipe that converges."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.epochs is not None:
            check_at_least(self, epochs=1)
        super().check()


@dataclass(frozen=True)
class ActionOptions(RunOptions):
    """Options of every search for edits."""

    budget: int = 2000
    """Reward evaluations of each search on each task."""
    parametrization: Literal["low-rank", "per-weight", "per-row", "per-column"] = "low-rank"
    """How an action becomes a matrix."""
    rank: int = 4
    """Rank of low-rank actions."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.budget < 1:
            raise ValueError(f"--budget must be at least 1 reward evaluation, got {self.budget}")
        check_at_least(self, rank=1)
        super().check()


@dataclass(frozen=True)
class MethodOptions(ActionOptions):
    """Options of every experiment that runs methods by name."""

    methods: tuple[str, ...] = SEARCHES
    """Methods to compare: presets by name, or paths of TOML files of your own."""
    horizon: int = 1
    """Edits of an episode; only PPO plays more than one."""
    observation: Literal["weights", "time"] = "weights"
    """What the policy sees: the current weights, or the time alone."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.horizon < 1:
            raise ValueError(f"--horizon must be at least 1 edit, got {self.horizon}")
        if not self.methods:
            raise ValueError("--methods must name at least one method")
        super().check()


@dataclass(frozen=True)
class SearchOptions(MethodOptions):
    """Options of every experiment that shows the progress of searches."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ("tensorboard",)

    tensorboard: bool = False
    """Write TensorBoard scalars as well (needs the extra 'tensorboard')."""


def check_at_least(options: object, **least: int) -> None:
    """Raises ValueError for the first of the named options that is below its least value."""
    for name, bound in least.items():
        if (value := getattr(options, name)) < bound:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {bound}, got {value}")


def run_folder(config: RunOptions) -> Path:
    """The folder of the run of options that `Command.resolve` has completed."""
    assert config.run_dir is not None
    return config.run_dir


def import_reward(name: str) -> Any:
    """Imports a user's reward function, given as ``module:function``.

    Raises:
      ValueError: it cannot be imported.
    """
    module, function = name.split(":", 1)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` would find it
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import the reward {name!r}: {error}") from error
