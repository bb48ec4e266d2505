"""Key statistics of a text file: computed once for every content of text, network and modules."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from modeledit_jax.data.facts.text_windows import text_windows
from modeledit_jax.data.facts.tokens import IGNORED, TokenBatch
from modeledit_jax.data.folders import default_cache_dir
from modeledit_jax.lifelong.key_statistics import KeyStatistics, add_text
from modeledit_jax.lifelong.language_model import LanguageModel
from modeledit_jax.lifelong.model import EditableModel
from modeledit_jax.reading.files import regular_file
from modeledit_jax.run.cache import cached_tree
from modeledit_jax.run.identity import identities
from modeledit_jax.types import Report

WINDOW, ROWS = 256, 8
"""Tokens that are read as one text, at most, and texts read at once."""


def text_statistics(
    model: LanguageModel,
    path: str | Path,
    cache_dir: str | Path | None = None,
    report: Report | None = None,
) -> KeyStatistics:
    """Second moments of what the editable modules read on a text, all modules in one pass.

    Args:
      model: the unedited one.
      path: of a text in UTF-8, of any size: it is read in pieces. A few times ``d_in`` tokens are
        enough (FastMEMIT, ACL 2025).
      cache_dir: of what is computed once; None: `default_cache_dir`.
      report: shows the progress, in KiB of the text.

    Returns:
      Arrays of NumPy; ``count`` are the tokens that were read, special ones included.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not UTF-8, holds no token, or one that the network does not embed.
    """
    path = regular_file(path, "no text {path}: give the path of a text file")
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    length = min(WINDOW, model.config.context)
    network, tokenizer = identities([model.params, model.tokenizer.to_str()])
    key = {
        "text": content,
        "network": network,
        "config": str(model.config),
        "tokenizer": tokenizer,
        "modules": list(model.modules),
        "window": length,
    }

    def build() -> dict[str, Any]:
        found = _read(model, path, length, report)
        return {"moments": found.moments, "count": found.count}

    folder = Path(cache_dir or default_cache_dir()) / "key-statistics"
    return KeyStatistics(**cached_tree(folder, key, build))


def _read(model: LanguageModel, path: Path, length: int, report: Report | None) -> KeyStatistics:
    size = path.stat().st_size
    statistics = KeyStatistics.empty(model.editable)
    windows = text_windows(path, model.tokenizer, length, model.config.vocab_size)
    for batch, read in _batches(windows, length):
        statistics = _added(model.editable, statistics, batch)
        if report is not None:
            report(read >> 10, max(size >> 10, 1), {})
    if not float(statistics.count):
        raise ValueError(f"{path} holds no token: give a text")
    return statistics


def _batches(
    windows: Iterator[tuple[list[int], int]], length: int
) -> Iterator[tuple[TokenBatch, int]]:
    """Always of one shape; the last is filled up."""
    while rows := list(islice(windows, ROWS)):
        tokens = np.zeros((ROWS, length), np.int32)
        attention = np.zeros((ROWS, length), bool)
        for row, (ids, _) in enumerate(rows):
            tokens[row, : len(ids)] = ids
            attention[row, : len(ids)] = True
        labels = np.full_like(tokens, IGNORED)
        yield TokenBatch(*map(jnp.asarray, (tokens, attention, labels))), rows[-1][1]


@jax.jit(donate_argnames="statistics")
def _added(model: EditableModel, statistics: KeyStatistics, batch: TokenBatch) -> KeyStatistics:
    return add_text(model, model.kernels(), statistics, batch)
