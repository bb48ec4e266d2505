"""Ordinary text that closed-form methods are to leave as it is read (``--statistics``)."""

from collections.abc import Mapping
from dataclasses import replace

from experiments.lifelong_editing.config import ClosedFormOptions
from experiments.lifelong_editing.setup import Setup
from modeledit_jax.lifelong.fact_task import FactTask
from modeledit_jax.lifelong.stream import StreamEditor
from modeledit_jax.run.progress import Reporter
from modeledit_jax.run.text_statistics import text_statistics


def check_statistics(config: ClosedFormOptions, methods: Mapping[str, StreamEditor]) -> None:
    """Raises ValueError for ``--statistics`` that none of the methods uses."""
    if config.statistics is not None and not _readers(methods):
        raise ValueError(f"--statistics sets nothing in {', '.join(methods)}: leave it out")


def with_text(
    config: ClosedFormOptions, setup: Setup, method: StreamEditor, reporter: Reporter
) -> FactTask:
    """The task of a method; with the key statistics of ``--statistics`` if it reads a text."""
    if config.statistics is None or not method.reads_text:
        return setup.task
    report = reporter(f"key statistics of {config.statistics.name}")
    found = text_statistics(setup.model, config.statistics, config.cache_dir, report)
    return replace(setup.task, model=replace(setup.task.model, statistics=found))


def text_notes(config: ClosedFormOptions, seed: int, tokens: Mapping[str, int]) -> list[str]:
    """What methods took for ordinary text, and how many tokens it had."""
    if not tokens:
        return []
    what = f"seed {seed}: key statistics of {', '.join(tokens)} are those of"
    if config.statistics is None:
        return [f"{what} the prompts of the facts to train on"]
    return [f"{what} `{config.statistics}`, {max(tokens.values()):,} tokens"]


def _readers(methods: Mapping[str, StreamEditor]) -> list[str]:
    return [name for name, method in methods.items() if method.reads_text]
