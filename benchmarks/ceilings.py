"""What the device can do at best: its largest matrix products, and copies of memory."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from benchmarks.timing import Contestant
from modeledit_jax.tasks.task import Task
from modeledit_jax.types import Array


@dataclass(frozen=True)
class Sizes:
    """Sizes that fill a device.

    Attributes:
      rows: of the square matrices that are multiplied.
      numbers: float32 numbers that are copied.
    """

    rows: int
    numbers: int

    @classmethod
    def of_device(cls) -> "Sizes":
        """For the device that JAX computes on."""
        if jax.default_backend() == "cpu":
            return cls(rows=1024, numbers=2**25)
        return cls(rows=8192, numbers=2**30)


def large_gemm(sizes: Sizes) -> Contestant:
    """A product of two square float32 matrices; its work is in floating-point operations."""
    one, other = (
        jax.random.normal(jax.random.key(seed), (sizes.rows, sizes.rows)) for seed in (0, 1)
    )
    return Contestant(partial(jax.jit(jnp.matmul), one, other), work=2.0 * sizes.rows**3)


def copy(sizes: Sizes) -> Contestant:
    """Reads and writes an array once; its work is in bytes, those read and those written."""
    values = jnp.ones(sizes.numbers)

    @jax.jit
    def run(values: Array, factor: Array) -> Array:
        return values * factor

    return Contestant(partial(run, values, jnp.float32(2.0)), work=8.0 * sizes.numbers)


def evaluation_bytes(task: Task) -> float:
    """Bytes of an evaluation that writes and reads what the edited layer and the head put out.

    What a program moves that keeps nothing of them in caches or registers: a bound where candidates
    times images are many, as on accelerators; on a CPU they stay in its caches.
    """
    examples = len(task.roles["reward"].targets)
    columns = sum(task.subject.params[name]["kernel"].shape[1] for name in ("fc2", "head"))
    return 2.0 * 4.0 * examples * columns
