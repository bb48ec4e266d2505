"""Progress bars of a run of several parts."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from modeledit_jax.types import Report

Reporter = Callable[[str], Report]
"""``reporter("what is done")`` begins to show the progress of a part."""


class Progress:
    """A bar of the whole run, and below it one of the part it is at; both with the time left.

    Args:
      title: of the whole run.
      parts: that it has.
      shown: metrics that the bar of a part shows, where it reports them.
    """

    def __init__(self, title: str, parts: int, shown: Sequence[str] = ()):
        self._whole = tqdm(total=parts, desc=title, unit="part", position=0)
        self._part: tqdm | None = None
        self._shown = shown

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        self._close()
        self._whole.close()

    def one_done(self) -> None:
        """A part is finished."""
        self._close()
        self._whole.update()

    def reporter(self, text: str) -> Report:
        """Begins to show the progress of a part: a `Reporter`."""
        self._close()
        bar = self._part = tqdm(desc=text, unit="step", position=1, leave=False)

        def report(done: int, total: int, metrics: Mapping[str, Any]) -> None:
            bar.total = total
            bar.set_postfix(
                {n: f"{np.mean(metrics[n]):.3f}" for n in self._shown if n in metrics},
                refresh=False,
            )
            bar.update(done - bar.n)

        return report

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
