"""Options of the benchmark of unlearning."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from experiments.common.checks import Networks, Range
from experiments.common.options import SEARCHES
from experiments.unlearning.config import Dataset, EditorOptions

GRADIENTS = (
    "ft", "cf-1", "eu", "eu-1", "l1-sparse", "ga", "neggrad-plus", "neggrad-plus-published",
    "random-label", "salun", "boundary-shrink", "scrub", "scrub-r", "bad-teacher", "unsir",
)  # fmt: skip
"""Presets that train."""
ONE_PASS = (
    "ssd", "fisher", "influence", "projection", "ridge", "prototype-projection",
    "neuron-ablation", "random-edit",
)  # fmt: skip
"""Presets that take one or few passes over the examples."""
EVOSAX = ("sep-cma-es-mask", "sep-cma-es-shift", "pgpe-mask", "pgpe-shift")
"""Searches of the extra ``evosax``."""
FEWEST_RETRAINS = 2  # the second is the floor of chance


@dataclass(frozen=True)
class BenchmarkConfig(EditorOptions):
    """Compare all editors with retraining."""

    default_class: ClassVar[str] = "all"
    may_change_on_resume: ClassVar[tuple[str, ...]] = (
        *EditorOptions.may_change_on_resume,
        "methods",  # each is kept apart
    )

    dataset: Dataset = "mnist"
    """As in the experiment."""
    forget_class: str | None = None
    """As in the experiment; default, without --forget-samples: all."""
    seeds: Networks = 5
    """Networks trained from different seeds, each edited."""
    methods: tuple[str, ...] = (*SEARCHES, *EVOSAX, *GRADIENTS, *ONE_PASS)
    """Methods to compare: presets by name, or paths of TOML files of your own."""
    retrains: Annotated[int, Range(FEWEST_RETRAINS, 1_000)] = 3
    """Networks retrained without what is to be forgotten, per task; the first is what all are
    compared with, the others are the floor of chance."""
    relearning_repeats: Annotated[int, Range(1, 100)] = 1
    """How often each network is relearned, with other batches; their mean counts."""
