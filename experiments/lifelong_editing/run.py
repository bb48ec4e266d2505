"""The lifelong editing experiment: language models, then every method on each, then the report."""

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm

from experiments.common.options import run_folder
from experiments.lifelong_editing.config import Config
from experiments.lifelong_editing.report import write_report
from experiments.lifelong_editing.setup import check_modules, prepare
from experiments.lifelong_editing.stream_run import run_method
from modeledit_jax.run.resumable import Report

SHOWN = ("loss", "efficacy", "retention", "specificity")
"""Of what is reported, what the progress bars show."""


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    check_modules(config)
    outcomes = []
    with Progress(config.seeds * (len(config.methods) + 1)) as bars:
        for seed in range(config.seed, config.seed + config.seeds):
            setup = prepare(config, seed, bars.reporter)
            bars.one_done()
            for name in config.methods:
                outcomes.append(run_method(setup, name, bars.reporter))
                bars.one_done()
    write_report(config, setup, outcomes)
    return run_folder(config) / "report.md"


class Progress:
    """Progress of the whole run, and below it of what it is at; both with the time left."""

    def __init__(self, parts: int):
        self._whole = tqdm(total=parts, desc="lifelong editing", unit="part", position=0)
        self._part: tqdm | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        self._close()
        self._whole.close()

    def one_done(self) -> None:
        """A language model or a method is finished."""
        self._close()
        self._whole.update()

    def reporter(self, text: str) -> Report:
        """Shows the progress of a part."""
        self._close()
        bar = self._part = tqdm(desc=text, unit="step", position=1, leave=False)

        def report(done: int, total: int, record: Any) -> None:
            bar.total = total
            bar.set_postfix(
                {name: f"{np.mean(record[name]):.3f}" for name in SHOWN if name in record},
                refresh=False,
            )
            bar.update(done - bar.n)

        return report

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
