"""Sizes that cannot fit into the memory of the machine are refused before any work.

Estimates from below: what is refused would be ended by the system, hours later and without a word.
"""

import os
from pathlib import Path

CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
FLOAT = 4  # bytes


def memory() -> int:
    """Bytes of the machine, or of the container if that may take less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, CGROUPS):
        if path.is_file() and (text := path.read_text(encoding="utf-8").strip()).isdigit():
            limits.append(int(text))
    return min(limits)


def check_memory(needed: float, what: str, cure: str) -> None:
    """Raises ValueError if something takes more than there is.

    Args:
      needed: bytes.
      what: takes them.
      cure: options to change, with the largest values that make sense.
    """
    if needed > (limit := memory()):
        raise ValueError(
            f"{what} takes some {needed / 1e9:,.0f} GB of memory, this machine has "
            f"{limit / 1e9:,.0f} GB: {cure}"
        )
