"""Options that the commands of the experiments share, and what is checked of them.

Light to import, so that ``--help`` and mistakes are instant.
"""

import os
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeVar

from experiments.common.checks import Count, Evaluations, Networks, Range, Seed
from experiments.common.processes import VARIABLES, named

if TYPE_CHECKING:
    from jax.sharding import Mesh

World = Literal["mask", "shift"]
SEARCHES = tuple(
    f"{search}-{world}"
    for world in ("mask", "shift")
    for search in ("ppo", "openes", "snes", "random-search")
)
"""Presets of all searches."""

FIRST_TRAINING_SEED = 1000
"""Of the networks that policies are trained on; those they edit are of seeds below."""

_THREADS = 64
"""Of a CPU that stands for the devices of a mesh."""

Options = TypeVar("Options", bound="ToolOptions")


@dataclass(frozen=True)
class ToolOptions:
    """Options of every command."""

    def completed(self: Options) -> Options:
        """The options with ``~`` in paths replaced by the user's folder, as a shell does.

        Shells leave it in ``--run-dir=~/x``.

        Raises:
          ValueError: it names no user.
        """
        paths = {f.name: getattr(self, f.name) for f in fields(self)}
        paths = {name: path for name, path in paths.items() if isinstance(path, Path)}
        try:
            return replace(self, **{name: path.expanduser() for name, path in paths.items()})
        except RuntimeError as error:
            named = ", ".join(str(path) for path in paths.values() if str(path).startswith("~"))
            raise ValueError(f"{named} names no folder of a user: {error}") from error

    def check(self) -> None:
        """Checks what options mean together, before work starts; see `checks` for each alone.

        Raises:
          ValueError: options that contradict each other; the message names the cure.
        """


@dataclass(frozen=True)
class RunOptions(ToolOptions):
    """Options of every experiment."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ()  # names of options

    seeds: Networks = 3
    """Networks trained from different seeds, each edited."""
    seed: Seed = 0
    """First seed."""
    run_dir: Path | None = None
    """Folder of the run; default: a new one in runs/."""
    resume: bool = False
    """Continue the run in --run-dir."""
    cache_dir: Path | None = None
    """Where trained networks and data are kept; default: the user's cache folder."""

    def check(self) -> None:
        """As `ToolOptions.check`."""
        if self.resume and self.run_dir is None:
            raise ValueError("--resume needs --run-dir: the folder of the run to continue")


@dataclass(frozen=True)
class MeshOptions(RunOptions):
    """Options of every experiment that runs on several devices."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ("mesh",)
    mesh_axes: ClassVar[tuple[str, ...]] = ("tasks", "population")
    joins_processes: ClassVar[bool] = True  # whether several may run it together

    mesh: str | None = None
    """Devices to spread the work over, axis=devices joined by commas: tasks=4 or
    tasks=4,population=2. Tasks are searched and networks trained apart from each other, a search's
    candidates are shared out. Default: one device."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        super().check()
        open_mesh(self)


@dataclass(frozen=True)
class MemoryOptions(RunOptions):
    """Options of every experiment that chooses how much it computes at a time."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ("memory",)

    memory: str | None = None
    """Memory that the work may take on each device, e.g. 8GB; less takes longer. Default: most of
    what the device has."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        memory_budget(self)
        super().check()


@dataclass(frozen=True)
class SubjectOptions(RunOptions):
    """Options of every experiment that trains networks and edits some of their parameters."""

    site: tuple[str, ...] = ("fc2/kernel",)
    """Patterns of the parameters that may be edited."""
    epochs: Count | None = None
    """Passes over the training data; default: a recipe that converges."""


@dataclass(frozen=True)
class ActionOptions(RunOptions):
    """Options of every search for edits."""

    budget: Evaluations = 2000
    """Reward evaluations of each search on each task."""
    parametrization: Literal["low-rank", "per-weight", "per-row", "per-column"] = "low-rank"
    """How an action becomes a matrix."""
    rank: Annotated[int, Range(1, 1_000_000_000)] = 4
    """Rank of low-rank actions."""


@dataclass(frozen=True)
class MethodOptions(ActionOptions):
    """Options of every experiment that runs methods by name."""

    methods: tuple[str, ...] = SEARCHES
    """Methods to compare: presets by name, or paths of TOML files of your own."""
    horizon: Annotated[int, Range(1, 1_000, "edit")] = 1
    """Edits of an episode; only PPO plays more than one."""
    observation: Literal["weights", "time"] | None = None
    """What the policy sees: the current weights, or the time alone; default: the weights where an
    episode has several edits, for those of one edit all begin with the same."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Of the products by which searches score candidates; edited networks are float32."""
    sites_chosen: Annotated[int, Range(1, 1_000_000)] | None = None
    """Leaves of --site that an edit of a search changes, which it chooses; default: all."""
    sites_drawn: bool = False
    """With --sites-chosen: draw the leaves of a task at random and keep them, as a control."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.sites_drawn and self.sites_chosen is None:
            raise ValueError("--sites-drawn: say how many leaves to draw, with --sites-chosen")
        super().check()


@dataclass(frozen=True)
class SearchOptions(MemoryOptions, MeshOptions, MethodOptions):
    """Options of every experiment that shows the progress of searches."""

    may_change_on_resume: ClassVar[tuple[str, ...]] = ("mesh", "memory", "tensorboard")

    tensorboard: bool = False
    """Write TensorBoard scalars as well (needs the extra 'tensorboard')."""

    def check(self) -> None:
        """As `RunOptions.check`."""
        if self.tensorboard and find_spec("tensorboardX") is None:
            raise ValueError(
                "--tensorboard needs tensorboardX: pip install 'modeledit-jax[tensorboard]'"
            )
        super().check()


def open_mesh(options: RunOptions) -> "Mesh | None":
    """The devices of ``--mesh``; None: one, as in commands that have no such option.

    Raises:
      ValueError: a text that names no mesh of this command, or more devices than there are.
    """
    if not isinstance(options, MeshOptions) or options.mesh is None:
        return None
    # Read when JAX looks for devices. Those that XLA makes of a CPU share a pool of threads, one
    # for each; programs with sums over different devices at once need more, or wait for ever.
    os.environ.setdefault("PJRT_NPROC", str(max(_THREADS, os.cpu_count() or 1)))
    from modeledit_jax.mesh import read_mesh  # imports JAX

    return read_mesh(options.mesh, options.mesh_axes)


def memory_budget(options: MemoryOptions) -> int | None:
    """Bytes of ``--memory``; None: `default_budget`.

    Raises:
      ValueError: a text that names no size.
    """
    if options.memory is None:
        return None
    from modeledit_jax.memory import parse_memory  # imports JAX

    try:
        return parse_memory(options.memory)
    except ValueError as error:
        raise ValueError(f"--memory {options.memory}: {error}") from error


def check_processes(options: ToolOptions) -> None:
    """Raises ValueError if several processes run that have nothing to share."""
    if not named():
        return
    if not isinstance(options, MeshOptions) or not options.joins_processes:
        raise ValueError(
            f"this command runs in one process, several are named: unset {', '.join(VARIABLES)}"
        )
    if options.mesh is None:
        raise ValueError(
            f"several processes share what lies along --mesh: name all their devices, e.g. "
            f"--mesh {options.mesh_axes[0]}=8, or unset {', '.join(VARIABLES)}"
        )


def check_training_seeds(options: RunOptions, number: int) -> None:
    """Raises ValueError if networks to edit have seeds of those that policies are trained on."""
    first = FIRST_TRAINING_SEED
    if options.seed < first + number and options.seed + options.seeds > first:
        raise ValueError(
            f"--seed {options.seed} and --seeds {options.seeds}: the seeds {first} to "
            f"{first + number - 1} are of the networks that policies are trained on; choose others"
        )


def run_folder(config: RunOptions) -> Path:
    """The folder of the run of options that `Command.resolve` has completed."""
    assert config.run_dir is not None
    return config.run_dir
