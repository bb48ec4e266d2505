"""The model as it was: what every edit is compared with."""

from dataclasses import dataclass

from modeledit_jax.data.facts.records import FactBatch
from modeledit_jax.lifelong.model import Changes, EditableModel, Kernels
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.types import Key


@dataclass(frozen=True)
class Unedited(StreamEditor):
    """Changes nothing: the model before all edits, asked the same questions."""

    def edit(
        self, model: EditableModel, kernels: Kernels, state: None, batch: FactBatch, key: Key
    ) -> tuple[Changes, None]:
        """See `StreamEditor.edit`."""
        return {}, None
