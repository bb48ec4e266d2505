"""Bytes: how many there are, how many a text names, and how many a computation takes at a time."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from modeledit_jax.processes import agreed
from modeledit_jax.types import PyTree

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

SHARE = 0.8
"""Of what a machine has that is taken by default: programs and other processes need some too."""


def parse_memory(text: str) -> int:
    """Reads ``"8GB"``, ``"500 MB"`` or ``"1.5GiB"`` as bytes.

    Raises:
      ValueError: it is no such text, or less than one byte.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]+)\s*", text)
    unit = UNITS.get(found[2].upper()) if found else None
    if found is None or unit is None:
        raise ValueError(f"the memory must be a number and a unit, e.g. 8GB or 500MB, got {text!r}")
    size = int(float(found[1]) * unit)
    if size < 1:
        raise ValueError(f"the memory must be at least one byte, got {text!r}")
    return size


def memory_text(size: int) -> str:
    """``"1.5 GB"``: the largest unit of which there is one."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            return f"{size / UNITS[unit]:.3g} {unit}"
    return f"{size} B"


def room_text(size: int) -> str:
    """As `memory_text`, rounded up: what to give where at least so much is needed."""
    for unit in ("TB", "GB", "MB", "KB"):
        if size >= UNITS[unit]:
            step = UNITS[unit] // 100
            return f"{-(-size // step) / 100:.2f} {unit}"
    return f"{size} B"


def machine_memory() -> int:
    """Bytes of the machine, or of the container if that may take less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUPS):
        if path.is_file() and (text := path.read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def default_budget() -> int:
    """Bytes that a computation may take on a device if nobody says: most of what there are.

    Simulated devices of one CPU share its memory.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    limit = stats.get("bytes_limit") or machine_memory() // jax.local_device_count()
    return agreed(int(SHARE * limit))  # else processes would compile different programs


def live_bytes(function: Callable[..., Any], *arguments: PyTree) -> int:
    """Most bytes of intermediate values that are alive at once; nothing is computed.

    Every value of the traced program counts from where it is made until its last use. A compiler
    that fuses operations needs less: it is a bound, and not an estimate.

    Args:
      function: pure.
      *arguments: arrays or `jax.ShapeDtypeStruct`, which do not count themselves.
    """
    return _peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays, which may be shapes alone; random keys count as their data."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def shape_of(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array, in place of it."""
    return jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf))


def device_bytes(tree: PyTree) -> int:
    """As `tree_bytes`, of what lies on one device of those that arrays are spread over."""
    return sum(_bytes(_part(leaf)) for leaf in jax.tree.leaves(tree))


def _part(leaf: Any) -> Any:
    """The shape of an array's part on a device."""
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        return leaf
    return jax.ShapeDtypeStruct(sharding.shard_shape(leaf.shape), leaf.dtype)


def most_that_fit(bytes_of: Callable[[int], int], most: int, room: int) -> int:
    """How many of at most ``most`` rows fit at a time; 0: not even one.

    Args:
      bytes_of: what a number of rows takes: convex in it, as the peak of a program is whose values
        grow with the rows or stay. It is asked twice at most.
      most: at least 1.
      room: bytes.
    """
    whole = bytes_of(most)
    if whole <= room:
        return most
    one = bytes_of(1) if most > 1 else whole
    if one > room:
        return 0
    # A convex function lies below its chord.
    return 1 + (room - one) * (most - 1) // (whole - one)


def _peak(jaxpr: Jaxpr) -> int:
    uses = Counter(id(v) for e in jaxpr.eqns for v in e.invars if not isinstance(v, Literal))
    uses.update(id(v) for v in jaxpr.outvars if not isinstance(v, Literal))
    sizes: dict[int, int] = {}  # of what was made here
    live = peak = 0
    for equation in jaxpr.eqns:
        made = {id(v): _bytes(v.aval) for v in equation.outvars}
        inside = sum(max(map(_peak, _programs(p)), default=0) for p in equation.params.values())
        peak = max(peak, live + sum(made.values()) + inside)
        sizes |= made
        live += sum(size for name, size in made.items() if uses[name])
        for variable in equation.invars:
            name = id(variable)
            if not isinstance(variable, Literal):
                uses[name] -= 1
                if not uses[name]:
                    live -= sizes.pop(name, 0)
    return peak


def _programs(parameter: Any) -> list[Jaxpr]:
    """The programs in a parameter of an operation: bodies of loops, branches, calls."""
    if isinstance(parameter, ClosedJaxpr):
        return [parameter.jaxpr]
    if isinstance(parameter, Jaxpr):
        return [parameter]
    if isinstance(parameter, tuple | list):
        return [program for one in parameter for program in _programs(one)]
    return []


def _bytes(value: Any) -> int:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return 0
    size = 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize
    return int(np.prod(value.shape, dtype=np.int64)) * size
