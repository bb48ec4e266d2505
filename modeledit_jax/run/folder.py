"""The configuration of a run on disk, and the check that a resumed run is the same run."""

import dataclasses
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from modeledit_jax.processes import first_does, is_first
from modeledit_jax.reading.json_text import read_object
from modeledit_jax.run.files import atomic_write_text
from modeledit_jax.run.lock import NAME as LOCK
from modeledit_jax.run.lock import locked

PLACES = ("run_dir", "cache_dir")
"""Fields that say where a run lies and what it may reuse, which is no part of what it computes."""


def open_run(run_dir: Path, config: Any, *, resume: bool, free: Collection[str] = ()) -> None:
    """Makes the folder of a run and writes ``config.json``, or checks the one that is there.

    Args:
      run_dir: the folder.
      config: a dataclass of JSON-like values and paths.
      resume: continue a run in that folder.
      free: fields that may differ between the parts of a run.

    Raises:
      ValueError: there is a run already and ``resume`` is not set; there is none to resume; or
        its configuration differs, in which case the message lists the differences.
      OSError: the folder cannot be written.
    """
    path = run_dir / "config.json"
    mine = {key: value for key, value in as_json(config).items() if key not in {"resume", *free}}
    paths = {key for key, value in vars(config).items() if isinstance(value, Path)}
    if resume:
        if not path.is_file():
            raise ValueError(f"no run to resume in {run_dir}: leave out --resume to start one")
        stored = read_object(path, "is damaged: choose another --run-dir ({reason})")
        keys = sorted((stored.keys() | mine.keys()) - {*free, *PLACES})
        changed = [
            f"{key} was {stored.get(key)!r}, now {mine.get(key)!r}"
            for key in keys
            if not _same(stored.get(key), mine.get(key), is_path=key in paths)
        ]
        if changed:
            raise ValueError(
                f"the run in {run_dir} has another configuration ({'; '.join(changed)}): "
                "repeat its options, or choose another --run-dir"
            )
        _remove_leftovers(run_dir)
        return
    if path.exists():
        raise ValueError(
            f"{run_dir} holds a run already: add --resume, or choose another --run-dir"
        )
    with _errors_name_the_folder(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, json.dumps(mine, indent=2) + "\n")


def _remove_leftovers(run_dir: Path) -> None:
    """Of a kill in the middle of a write."""
    for leftover in list(run_dir.rglob(".*.tmp*")):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def _errors_name_the_folder(run_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"cannot write to the run folder {run_dir} ({error.strerror}): choose another --run-dir"
        ) from error


@contextmanager
def opened_run(
    run_dir: Path, config: Any, *, resume: bool, free: Collection[str] = ()
) -> Iterator[None]:
    """`open_run` around the work of a run: a mistake found before anything was saved undoes it.

    So a corrected command may name the same folder. Interrupts and kills leave the folder: such a
    run can be resumed. The first of several processes opens it for all. Arguments and errors are
    those of `open_run`.

    Raises:
      ValueError: another process is at work in the folder.
    """
    with ExitStack() as stack:

        def opened() -> None:
            if not resume:
                with _errors_name_the_folder(run_dir):
                    run_dir.mkdir(parents=True, exist_ok=True)
            if not resume or (run_dir / "config.json").exists():
                stack.enter_context(locked(run_dir))
            open_run(run_dir, config, resume=resume, free=free)

        first_does(opened)
        try:
            yield
        except Exception:
            if not resume and is_first():
                _discard(run_dir)
            raise


def _same(stored: Any, mine: Any, *, is_path: bool) -> bool:
    """Whether two values are equal; as paths, whether they lead to one place."""
    if is_path and isinstance(stored, str):
        return os.path.realpath(stored) == os.path.realpath(mine)
    return stored == mine


def _discard(run_dir: Path) -> None:
    """Removes the folder of a run unless it holds files beside ``config.json`` and the lock."""
    config = run_dir / "config.json"
    ours = (config, run_dir / LOCK)
    if all(path in ours or path.is_dir() for path in run_dir.rglob("*")):
        config.unlink(missing_ok=True)
        shutil.rmtree(run_dir, ignore_errors=True)


def as_json(config: Any) -> dict[str, Any]:
    """Returns a dataclass as JSON values: paths as strings, tuples as lists."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
