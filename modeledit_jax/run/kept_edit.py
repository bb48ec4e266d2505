"""The file beside a kept edit: of what work it is, which leaves it changed, what it has cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modeledit_jax.editors.editor import Cost
from modeledit_jax.reading.fields import Fields
from modeledit_jax.reading.json_text import as_object
from modeledit_jax.run.digested_json import read_digested

DAMAGED = "is damaged or of an earlier version: delete its folder to start afresh"

_MOST = 2**63 - 1


@dataclass(frozen=True)
class KeptEdit:
    """What ``edit.json`` says.

    Attributes:
      identity: of the work, see `modeledit_jax.run.identity`.
      changed: paths of the leaves that the edit changed.
      cost: of the edit.
    """

    identity: str
    changed: tuple[str, ...]
    cost: Cost

    def check_leaves(self, leaves: Sequence[str], path: Path) -> None:
        """Raises ValueError if the file ``path`` names a leaf that is not among ``leaves``."""
        if unknown := [name for name in self.changed if name not in leaves]:
            raise ValueError(
                f"{path} names {unknown[0]!r}, which the network lacks: delete its folder"
            )


def read_kept_edit(path: Path) -> KeptEdit:
    """Reads the file.

    Raises:
      ValueError: it is damaged.
    """
    content = as_object(read_digested(path, DAMAGED), str(path), DAMAGED)
    stored = Fields(content, str(path), cure="delete its folder")
    changed = stored.get("changed")
    if not isinstance(changed, list) or not all(isinstance(name, str) for name in changed):
        raise stored.wrong("changed", "a list of leaves of the network")
    cost = stored.inner("cost")
    return KeptEdit(
        stored.text("identity"),
        tuple(changed),
        Cost(
            cost.integer("reward_evaluations", 0, _MOST),
            cost.integer("gradient_steps", 0, _MOST),
            cost.number("seconds", _MOST, zero=True),
        ),
    )
