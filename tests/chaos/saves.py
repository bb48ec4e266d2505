"""Saves of arrays that are killed at every system call, or made by several processes at once.

``python -m tests.chaos.saves kills FOLDER`` kills a save at its first call, at its second, and so
on until one lives, and prints what is found after each. Processes are forked before JAX starts
threads.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from modeledit_jax.run.checkpoint import Checkpoints

CALLS = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "open", "write", "scandir")
"""Functions of `os` at which a save is killed, before they do anything."""


def state(step: int) -> dict[str, np.ndarray]:
    """What is saved after so many steps."""
    return {"mean": np.full(50, float(step)), "step": np.full(1, step)}


def kill_at(number: int) -> Callable[[], int]:
    """Ends this process at its ``number``-th call from now; returns a counter of the calls."""
    count = 0

    def watched(real: Callable) -> Callable:
        def call(*arguments: object, **options: object) -> object:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, watched(getattr(os, name)))
    return lambda: count


def in_a_child(work: Callable[[], None]) -> bool:
    """Runs ``work`` in a forked process; whether it lived."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(f"a save failed: {error!r}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("a save failed")
    return os.WIFEXITED(status)


def kills(folder: Path) -> list[int]:
    """The step that is restored after a kill at the first call, at the second, ..."""

    def save(number: int) -> None:
        checkpoints = Checkpoints(folder / str(number))
        checkpoints.save(10, state(10))
        checkpoints.save(20, state(20))
        kill_at(number)
        checkpoints.save(30, state(30))

    def check(number: int) -> None:
        found = Checkpoints(folder / str(number)).restore(state(0))
        assert found is not None
        step, tree = found
        assert all((tree[name] == value).all() for name, value in state(step).items())
        (folder / f"{number}.json").write_text(json.dumps(step), encoding="utf-8")

    found, number, lived = [], 0, False
    while not lived:
        number += 1
        lived = in_a_child(lambda number=number: save(number))
        assert in_a_child(lambda number=number: check(number))
        found.append(json.loads((folder / f"{number}.json").read_text(encoding="utf-8")))
    return found


if __name__ == "__main__":
    print(json.dumps(kills(Path(sys.argv[2]))))
