"""Sizes that cannot fit into the memory of the machine are refused before any work.

Estimates from below: what is refused would be ended by the system, hours later and without a word.
How what is not refused fits is said on the standard error.
"""

import sys
from collections.abc import Callable

FLOAT = 4  # bytes


def announcer(name: str) -> Callable[[str], None]:
    """Prints a line about the memory of a method on the standard error, above progress bars."""
    from tqdm import tqdm

    return lambda line: tqdm.write(f"{name}: {line}", file=sys.stderr)


def check_memory(needed: float, what: str, cure: str) -> None:
    """Raises ValueError if something takes more than there is.

    Args:
      needed: bytes.
      what: takes them.
      cure: options to change, with the largest values that make sense.
    """
    from modeledit_jax.memory import machine_memory  # imports JAX

    if needed > (limit := machine_memory()):
        raise ValueError(
            f"{what} takes some {needed / 1e9:,.0f} GB of memory, this machine has "
            f"{limit / 1e9:,.0f} GB: {cure}"
        )
