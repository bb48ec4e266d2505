"""Runs of a command at a tiny size, one for each row of a table of options.

The table of every experiment has each value that an option allows in at least one row that runs to
its report (`untried` finds those that have none), so that no value is met for the first time by a
user. Belongs to the kind: names that are put together from values and checked late, data sets that
are not at hand, parts of a report that only some values write.
"""

import types
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from modeledit_jax.data.comments import synthetic

Row = dict[str, str]
"""Options by name, as they stand on the command line; a flag has an empty text."""

FLAG = ""


def run_row(command, row: Row, folder: Path, cache_dir: Path, report: str = "report.md") -> Path:
    """Runs a command to its report, which must be there; returns the folder of the run."""
    run = folder / "run"
    arguments = [
        part
        for name, text in row.items()
        for part in (f"--{name.replace('_', '-')}", *text.split())
    ]
    with pytest.raises(SystemExit) as left:
        command([*arguments, "--run-dir", str(run), "--cache-dir", str(cache_dir)])
    assert left.value.code == 0, row
    assert (run / report).stat().st_size > 100
    return run


def choices(hint: Any) -> set[str]:
    """The values that a type names; ``""`` for a flag that is set."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is bool:
        return {FLAG}
    if origin is Literal:
        return set(inner)
    if origin in (Annotated, tuple, Union, types.UnionType):
        return choices(inner[0])
    return set()


def untried(options: type, rows: list[Row], **named: Any) -> set[tuple[str, str]]:
    """Values that an option allows and no row has.

    Args:
      options: the dataclass of a command.
      rows: of its table; an option that one leaves out has its default.
      **named: values of options of free text that have a meaning of their own, by option.
    """
    hints = get_type_hints(options, include_extras=True)
    missing = set()
    for option in fields(options):
        name = option.name
        if name == "resume":  # tested with the runs that are stopped
            continue
        tried = {value for row in rows for value in row.get(name, "-").split(" ")}
        default = option.default if isinstance(option.default, tuple) else (option.default,)
        if any(name not in row for row in rows):
            tried |= set(default)
        wanted = choices(hints[name]) | set(named.get(name, ()))
        missing |= {(name, value) for value in wanted - tried}
    return missing


def small_corpus(monkeypatch) -> None:
    """The experiments about comments on few synthetic ones; everything else as a user runs it."""
    original = synthetic.identity_corpus

    @cache
    def small(seed=0, *, cues=1.8):
        return original(seed, cues=cues, train=1_500, validation=500, test=300, contexts=24)

    monkeypatch.setattr("experiments.bias_mitigation.run.identity_corpus", small)
