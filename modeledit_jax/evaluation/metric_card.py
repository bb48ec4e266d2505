"""What one number of a report means."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricCard:
    """One metric.

    Attributes:
      name: as in results, stable.
      definition: one line.
      formula: how it is computed; of one edit or network, unless it says otherwise.
      source: where the convention is from.
      range: of values.
      better: ``"higher"``, ``"lower"`` or ``"none"``.
      unedited: what the network scores before any edit.
    """

    name: str
    definition: str
    formula: str
    source: str
    range: str
    better: str
    unedited: str
