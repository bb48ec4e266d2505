"""The conversion, with a progress bar."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from experiments.convert.config import Config
from modeledit_jax.language.gguf.convert import convert_gguf


def run(config: Config) -> Path:
    """Converts; returns the folder."""
    with tqdm(desc=f"converting {config.file.name}", unit="tensor") as bar:

        def report(done: int, total: int, _: Mapping[str, Any]) -> None:
            bar.total = total
            bar.update(done - bar.n)

        convert_gguf(config.file, config.folder, report)
    return config.folder
