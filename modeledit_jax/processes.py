"""Several processes that run one program on the devices of all of them.

JAX joins them (`jax.distributed`). Every process computes everything; a mesh is divided
among their devices. Only the first one writes, and what a computation depends on beside its
arguments (the clock, what is on disk) is what the first one sees: else two processes might go
different ways, and wait for each other for ever. With one process, nothing here does anything.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

Value = TypeVar("Value")

_BLOCK = 1024
"""Bytes are sent in multiples, so that few programs are compiled."""


def several() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return not several() or jax.process_index() == 0


def agreed(value: Value) -> Value:
    """What the first process has given; all have to ask.

    Args:
      value: of types that JSON knows; that of other processes does not count.
    """
    if not several():
        return value
    data = json.dumps(value).encode()
    size = -(-len(data) // _BLOCK) * _BLOCK
    size = int(multihost_utils.broadcast_one_to_all(np.int32(size)))
    room = np.full(size, ord(" "), np.uint8)
    if is_first():
        room[: len(data)] = np.frombuffer(data, np.uint8)
    return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(room))))


def first_does(work: Callable[[], None]) -> None:
    """Has the first process do something, and the others wait for its end.

    Raises:
      ValueError, OSError: of the first process; the others raise a ValueError that says the same.
    """
    error: ValueError | OSError | None = None
    if is_first():
        try:
            work()
        except (ValueError, OSError) as raised:
            error = raised
    said = agreed(None if error is None else str(error))
    if error is not None:
        raise error
    if said is not None:
        raise ValueError(said)


@contextmanager
def first_goes_ahead() -> Iterator[None]:
    """Around what all processes do with a folder: the others begin when the first one has ended."""
    if not is_first():
        agreed(None)
    try:
        yield
    finally:
        if is_first():
            agreed(None)
