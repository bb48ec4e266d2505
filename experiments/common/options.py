"""What the command lines of the experiments share: options of searches and runs, exit codes.

Light to import, so that ``--help`` and mistakes are instant.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import tyro

World = Literal["mask", "shift"]
SearchName = Literal["ppo", "openes", "snes", "random-search"]


@dataclass(frozen=True)
class RunOptions:
    """Options of every experiment."""

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


@dataclass(frozen=True)
class SearchOptions(RunOptions):
    """Options of every experiment that searches for edits."""

    site: tuple[str, ...] = ("fc2/kernel",)
    """Patterns of the parameters that may be edited."""
    worlds: tuple[World, ...] = ("mask", "shift")
    """Scale the weights (mask), add to them (shift), or both in turn."""
    searches: tuple[SearchName, ...] = ("ppo", "openes", "snes", "random-search")
    """Searches to run in each world."""
    budget: int = 2000
    """Reward evaluations of each search on each task."""
    parametrization: Literal["low-rank", "per-weight", "per-row", "per-column"] = "low-rank"
    """How an action becomes a matrix."""
    rank: int = 4
    """Rank of low-rank actions."""
    horizon: int = 1
    """Edits of an episode; above 1 only PPO runs."""
    observation: Literal["weights", "time"] = "weights"
    """What the policy sees: the current weights, or the time alone."""
    epochs: int | None = None
    """Passes over the training data; default: a recipe that converges."""
    tensorboard: bool = False
    """Write TensorBoard scalars as well (needs the extra 'tensorboard')."""


Options = TypeVar("Options", bound=RunOptions)
Searching = TypeVar("Searching", bound=SearchOptions)


def resolve_run(config: Options, experiment: str) -> Options:
    """Checks the options that every experiment has and fills in the run folder.

    Raises:
      ValueError: an option out of range; the message names the cure.
    """
    if config.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {config.seeds}")
    if config.resume and config.run_dir is None:
        raise ValueError("--resume needs --run-dir: the folder of the run to continue")
    if config.run_dir is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        config = dataclasses.replace(config, run_dir=Path("runs") / f"{experiment}-{stamp}")
    return config


def resolve_options(config: Searching, experiment: str) -> Searching:
    """Checks what can be checked before work starts and fills in the run folder.

    Raises:
      ValueError: an option out of range; the message names the cure.
    """
    if config.budget < 1:
        raise ValueError(f"--budget must be at least 1 reward evaluation, got {config.budget}")
    if config.epochs is not None and config.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {config.epochs}")
    if config.horizon < 1:
        raise ValueError(f"--horizon must be at least 1 edit, got {config.horizon}")
    if config.horizon > 1 and set(config.searches) != {"ppo"}:
        raise ValueError("with --horizon above 1 only PPO can search: add --searches ppo")
    return resolve_run(config, experiment)


def run_folder(config: RunOptions) -> Path:
    """The folder of a resolved configuration's run."""
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


def guarded(config: Options, resolve: Callable[[Options], Options], module: str) -> int:
    """Resolves the options and runs a module's ``run``; mistakes become one line.

    Returns:
      The exit code.
    """
    try:
        config = resolve(config)
        # Heavy imports after the command line was read, so that --help and mistakes are instant.
        importlib.import_module(module).run(config)
    except KeyboardInterrupt:
        again = f"repeat the command with --resume --run-dir {config.run_dir}"
        print(f"\ninterrupted; to continue, {again}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


def command_line(
    kind: type[Options], main: Callable[[Options], int], description: str | None
) -> NoReturn:
    """Reads the options of an experiment, runs it and leaves with its exit code."""
    code = main(tyro.cli(kind, description=description))
    if code == 130:  # a compiled call may still run in another thread: do not tear down around it
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
