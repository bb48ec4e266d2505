"""The transfer experiment: train policies, edit at once, adapt, repeat, time."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

from experiments.common.options import run_folder
from experiments.transfer.adaptation import adaptation_rows
from experiments.transfer.config import Config
from experiments.transfer.cost import cost_rows
from experiments.transfer.networks import Networks
from experiments.transfer.policies import Policies
from experiments.transfer.report import write_report
from experiments.transfer.sequence import sequence_rows
from experiments.transfer.zero_shot import zero_shot_rows
from modeledit_jax.report.serialization import cached_rows
from modeledit_jax.report.table import Row

PARTS: dict[str, Callable[[Policies], list[Row]]] = {
    "zero-shot": zero_shot_rows,
    "adaptation": adaptation_rows,
    "sequence": sequence_rows,
    "cost": cost_rows,
}


def run(config: Config) -> Path:
    """Runs the experiment and writes its folder."""
    networks = Networks(config)
    found: dict[str, list[Row]] = {part: [] for part in PARTS if part in config.parts}
    for world in config.worlds:
        policies = Policies(config, networks, world)
        for part, rows in found.items():
            path = run_folder(config) / "parts" / f"{part}-{world}.json"
            rows += cached_rows(path, partial(PARTS[part], policies))
    write_report(config, list(chain.from_iterable(found.values())))
    return run_folder(config) / "report.md"
