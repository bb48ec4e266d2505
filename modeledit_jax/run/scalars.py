"""Optional TensorBoard scalars."""

from pathlib import Path
from typing import Any

from modeledit_jax.processes import is_first


class ScalarWriter:
    """Writes scalars for TensorBoard, or nothing.

    Args:
      folder: of the event files; None switches the writer off, as it is in all processes but the
        first.

    Raises:
      ValueError: a folder is given but tensorboardX is not installed.
    """

    def __init__(self, folder: Path | None):
        self._writer: Any = None
        if folder is None or not is_first():
            return
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise ValueError(
                "TensorBoard scalars need tensorboardX: pip install 'modeledit-jax[tensorboard]'"
            ) from None
        self._writer = SummaryWriter(str(folder))

    def write(self, name: str, value: float, step: int) -> None:
        """Records one value."""
        if self._writer is not None:
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the file."""
        if self._writer is not None:
            self._writer.close()
