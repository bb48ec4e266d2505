"""The one entry of all commands: options read and checked, the folder of the run, mistakes.

Light to import, so that ``--help`` and mistakes are instant: what computes is imported once the
options are known to be right.
"""

import dataclasses
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import ClassVar, Generic, NoReturn, TypeVar

from experiments.common.arguments import read_options
from experiments.common.checks import check_options
from experiments.common.options import RunOptions, ToolOptions, check_processes, run_folder
from experiments.common.processes import first_named, join_processes, named
from experiments.common.terminal import (
    plain_warnings,
    show_what_can_be_shown,
    signals_interrupt,
)

Arguments = TypeVar("Arguments", bound=ToolOptions)
Options = TypeVar("Options", bound=RunOptions)

SIGNALED = 128
"""What shells add to the number of the signal that ended a command."""

PIPE_CLOSED = 13
"""Number of the signal for it, where there is one."""

INTERRUPTED = SIGNALED + signal.SIGINT
"""Exit code of a command that Ctrl-C ended."""


@dataclass(frozen=True)
class Tool(Generic[Arguments]):
    """A command without a folder of a run.

    Attributes:
      options: the dataclass of its options.
      run: name of the module whose ``run(config)`` does the work and returns the path of what it
        has made.
      description: what ``--help`` says first.
    """

    made: ClassVar[str] = "written"

    options: type[Arguments]
    run: str
    description: str | None = None

    @property
    def name(self) -> str:
        """``"unlearning"`` of ``"experiments.unlearning.run"``."""
        return self.run.removeprefix("experiments.").removesuffix(".run")

    def __call__(self, arguments: Sequence[str] | None = None, prog: str | None = None) -> NoReturn:
        """Reads the command line, runs, and leaves the process with the exit code.

        Args:
          arguments: default: those of the process.
          prog: what the help calls the command; default: ``python -m`` and its module.
        """
        prog = prog or f"python -m experiments.{self.name}"
        show_what_can_be_shown()
        config = read_options(self.options, arguments, prog, self.description)
        with signals_interrupt(), plain_warnings():
            code = self._main_of_several(config) if named() else self.main(config)
        if code > SIGNALED or (code and named()):
            # A compiled call may still run in another thread: do not tear down around it. And
            # where this is one of several processes, do not wait for the others, who wait for it.
            os._exit(code)
        sys.exit(code)

    def _main_of_several(self, config: Arguments) -> int:
        """`main` of a process that others wait for: it has to end with any error.

        Only the first prints; errors are those of each.
        """
        try:
            with redirect_stdout(sys.stdout if first_named() else StringIO()):
                return self.main(config)
        except Exception:
            traceback.print_exc()
            return 1

    def main(self, config: Arguments) -> int:
        """Checks the options and runs; a mistake becomes one line on the standard error.

        Returns:
          The exit code: 0, 2 after a mistake, 128 and the number of the signal that ended it, 130
          after Ctrl-C, 141 where nobody reads the output.
        """
        try:
            join_processes()
            config = self.resolve(config)
            print(f"{self.made}: {self._run(config)}", flush=True)
        except KeyboardInterrupt as error:
            _say(f"\ninterrupted; to continue, {_again(config)}")
            return SIGNALED + getattr(error, "number", signal.SIGINT)
        except BrokenPipeError:
            return SIGNALED + PIPE_CLOSED
        except (ValueError, OSError) as error:
            message = " ".join(str(error).split())
            _say(f"error: {message}")
            return 2
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            message = " ".join(str(error).split())
            _say(f"error: out of memory ({message}): ask for less, fewer --seeds first")
            return 2
        return 0

    def resolve(self, config: Arguments) -> Arguments:
        """The options, checked.

        Raises:
          ValueError: an option out of range; the message names the cure.
        """
        check_options(config)
        config = config.completed()
        check_processes(config)
        config.check()
        return config

    def _run(self, config: Arguments) -> Path:
        return importlib.import_module(self.run).run(config)


@dataclass(frozen=True)
class Command(Tool[Options]):
    """An experiment: ``python -m`` a package of `experiments`, or ``modeledit`` and its name.

    Its ``run(config)`` does the work in the open folder of the run and returns the path of the
    report.
    """

    made: ClassVar[str] = "report"

    def resolve(self, config: Options) -> Options:
        """The options, checked, with a folder for the run.

        Raises:
          ValueError: an option out of range; the message names the cure.
        """
        config = super().resolve(config)
        if config.run_dir is not None:
            return config
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        if named():
            from modeledit_jax.processes import agreed

            stamp = agreed(stamp)
        folder = Path("runs") / f"{self.name.replace('.', '-').replace('_', '-')}-{stamp}"
        return dataclasses.replace(config, run_dir=folder)

    def _run(self, config: Options) -> Path:
        from absl import logging

        from modeledit_jax.data.folders import default_cache_dir
        from modeledit_jax.run.folder import opened_run
        from modeledit_jax.run.programs import kept_programs

        # Orbax reports every checkpoint, and tells its errors twice; they arrive as exceptions.
        logging.set_verbosity(logging.FATAL)
        folder = opened_run(
            run_folder(config), config, resume=config.resume, free=config.may_change_on_resume
        )
        with folder, kept_programs(config.cache_dir or default_cache_dir()):
            return super()._run(config)


def _say(text: str) -> None:
    with suppress(OSError):  # nobody may be listening any more
        print(text, file=sys.stderr, flush=True)


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def _again(config: ToolOptions) -> str:
    folder = config.run_dir if isinstance(config, RunOptions) else None
    if folder is None or not (folder / "config.json").exists():
        return "repeat the command"  # nothing was saved yet
    return f"repeat the command with --resume --run-dir {folder}"
