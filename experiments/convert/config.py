"""Arguments of the conversion."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from experiments.common.options import ToolOptions


@dataclass(frozen=True)
class Config(ToolOptions):
    """Make a Hugging Face folder of a GGUF file, to edit facts into it."""

    file: Positional[Path]
    """GGUF file of a network of Llama's architecture."""
    folder: Positional[Path]
    """Folder to create; it may exist if it is empty."""
