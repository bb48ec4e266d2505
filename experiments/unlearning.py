"""Forget classes of an image classifier with MaskWorld and ShiftWorld: ``--help`` lists all.

python -m experiments.unlearning
python -m experiments.unlearning --dataset mnist --subject cnn --forget-class all --seeds 5
"""

import dataclasses
import importlib
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import tyro

World = Literal["mask", "shift"]
SearchName = Literal["ppo", "openes", "snes", "random-search"]


@dataclass(frozen=True)
class Config:
    """Forget classes of a trained image classifier by editing one layer."""

    dataset: Literal["digits", "mnist", "fashion_mnist", "npz"] = "digits"
    """Data set; digits is embedded, the others are downloaded or read from MODELEDIT_DATA_DIR."""
    npz_path: Path | None = None
    """With --dataset npz: your arrays x, y and optionally x_test, y_test."""
    subject: Literal["mlp", "cnn"] = "mlp"
    """Network to edit: … → 128 → 32 → classes."""
    forget_class: str = "7"
    """A class; several joined by commas, forgotten together; or 'all': every class in turn."""
    forget_samples: tuple[int, ...] = ()
    """Rows of the training set to forget, instead of a class."""
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
    reward: str = "soft"
    """soft (probabilities), accuracy, or a function f(sets, edit) of yours as module:name."""
    edit_size_penalty: float = 0.0
    """Weight of the relative edit size in the built-in rewards."""
    seeds: int = 3
    """Networks trained from different seeds, each edited."""
    seed: int = 0
    """First seed."""
    retrains: int = 2
    """Networks retrained without what is to be forgotten, per task; 2 show the noise floor."""
    epochs: int | None = None
    """Passes over the training data; default: a recipe that converges."""
    run_dir: Path | None = None
    """Folder of the run; default: a new one in runs/."""
    resume: bool = False
    """Continue the run in --run-dir."""
    cache_dir: Path | None = None
    """Where trained networks and data are kept; default: the user's cache folder."""
    tensorboard: bool = False
    """Write TensorBoard scalars as well (needs the extra 'tensorboard')."""


def resolve(config: Config) -> Config:
    """Checks what can be checked before work starts and fills in the run folder.

    Raises:
      ValueError: an option out of range; the message names the cure.
    """
    if config.budget < 1:
        raise ValueError(f"--budget must be at least 1 reward evaluation, got {config.budget}")
    if config.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {config.seeds}")
    if config.retrains < 1:
        raise ValueError("--retrains must be at least 1: Tug-of-War compares with a retraining")
    if config.epochs is not None and config.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {config.epochs}")
    if config.resume and config.run_dir is None:
        raise ValueError("--resume needs --run-dir: the folder of the run to continue")
    if (config.dataset == "npz") != (config.npz_path is not None):
        raise ValueError("--dataset npz and --npz-path go together: give both or neither")
    if config.horizon < 1:
        raise ValueError(f"--horizon must be at least 1 edit, got {config.horizon}")
    if config.horizon > 1 and set(config.searches) != {"ppo"}:
        raise ValueError("with --horizon above 1 only PPO can search: add --searches ppo")
    if config.run_dir is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        config = dataclasses.replace(config, run_dir=Path("runs") / f"unlearning-{stamp}")
    return config


def run_folder(config: Config) -> Path:
    """The folder of a resolved configuration's run."""
    assert config.run_dir is not None
    return config.run_dir


def reward_function(config: Config) -> Any:
    """Returns the built-in reward of that name, or imports the user's function.

    Raises:
      ValueError: neither; the message says what is expected.
    """
    from modeledit_jax.tasks.unlearning import REWARD_KINDS, unlearning_reward

    if ":" not in config.reward:
        if config.reward not in REWARD_KINDS:
            known = ", ".join(REWARD_KINDS)
            raise ValueError(f"--reward must be {known} or module:function, got {config.reward!r}")
        return unlearning_reward(config.reward, edit_size=config.edit_size_penalty)
    module, name = config.reward.split(":", 1)
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside the caller, as `python -m` would find it
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cannot import the reward {config.reward!r}: {error}") from error


def main(config: Config) -> int:
    """Runs the experiment; returns the exit code."""
    try:
        config = resolve(config)
        # Heavy imports after the command line was read, so that --help and mistakes are instant.
        from experiments.unlearning_run import run

        run(config)
    except KeyboardInterrupt:
        again = f"repeat the command with --resume --run-dir {config.run_dir}"
        print(f"\ninterrupted; to continue, {again}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
        print(f"error: {message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    code = main(tyro.cli(Config, description=__doc__))
    if code == 130:  # a compiled call may still run in another thread: do not tear down around it
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
