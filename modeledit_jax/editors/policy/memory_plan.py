"""How the training of a policy fits into a budget of memory.

From shapes alone, before anything is computed: how many tasks of an update are played side by side,
and how many trials of each. A smaller budget takes more of them one after another, and changes no
result but by rounding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modeledit_jax.agents.grpo import AtOnce
from modeledit_jax.memory import default_budget, memory_text, room_text


@dataclass(frozen=True)
class PolicyPlan:
    """Sizes of an update; `str` of it is the line that is printed.

    Attributes:
      budget: bytes.
      needed: bytes that are planned.
      tasks: of an update.
      trials: of each.
      at_once: of either.
    """

    budget: int
    needed: int
    tasks: int
    trials: int
    at_once: AtOnce

    def __str__(self) -> str:
        return (
            f"memory: at most {memory_text(self.needed)} of {memory_text(self.budget)}: "
            f"{self.at_once.tasks or self.tasks} of {self.tasks} tasks of an update side by side, "
            f"{self.at_once.trials or self.trials} of {self.trials} trials of each at a time"
        )


def plan_updates(
    tasks: int,
    trials: int,
    stored: int,
    bytes_of: Callable[[AtOnce], int],
    memory: int | None,
    devices: int = 1,
) -> PolicyPlan:
    """Chooses the largest sizes that fit; of several devices each plays all of its tasks at once.

    Args:
      tasks: of an update.
      trials: of each.
      stored: bytes on each device of what stays.
      bytes_of: what an update takes besides, on all devices together.
      memory: bytes of each device; None: `default_budget`, and where that is too little the
        smallest sizes are tried.
      devices: that the tasks of an update are spread over.

    Raises:
      ValueError: a stated ``memory`` that holds not even one trial of one task.
    """
    budget = default_budget() if memory is None else memory
    for at_once in _sizes(tasks if devices == 1 else 1, trials):
        needed = stored + -(-bytes_of(at_once) // devices)
        if needed <= budget:
            break
    else:
        if memory is not None:
            raise ValueError(
                f"the memory budget of {memory_text(budget)} is too small for training a policy by "
                f"one trial at a time, which takes {room_text(needed)}: give at least that"
            )
    return PolicyPlan(budget, needed, tasks, trials, at_once)


def _sizes(tasks: int, trials: int) -> Iterator[AtOnce]:
    """All at once, then fewer tasks, then fewer trials: half as many each time."""
    yield AtOnce()
    fewer = None
    while tasks > 1:
        fewer = tasks = -(-tasks // 2)
        yield AtOnce(fewer)
    while trials > 1:
        trials = -(-trials // 2)
        yield AtOnce(fewer, trials)
