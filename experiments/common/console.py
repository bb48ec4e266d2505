"""The console script ``modeledit``: lists the experiments and runs each by its name.

    modeledit --help
    modeledit unlearning --dataset mnist --forget-class all

A package of `experiments` with a ``__main__`` that defines ``command`` is an experiment; the first
line of its docstring is what the list says.
"""

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import experiments
from experiments.common.command import Command

USAGE = "usage: modeledit EXPERIMENT [OPTIONS]"


def experiment_names() -> dict[str, str]:
    """Names of all experiments, with a line about each; imports none of them."""
    root = Path(experiments.__path__[0])
    found = {}
    for path in sorted(root.rglob("__main__.py")):
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found[".".join(path.parent.relative_to(root).parts)] = about.split("\n")[0]
    return found


def help_text() -> str:
    """What ``modeledit --help`` prints."""
    names = experiment_names()
    width = max(map(len, names))
    listed = "\n".join(f"  {name:<{width}}  {about}" for name, about in names.items())
    return f"{USAGE}\n\n{listed}\n\nmodeledit EXPERIMENT --help lists the options of one."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the experiment named first, with the other arguments; default: those of the process."""
    name, *options = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(help_text())
        sys.exit(0)
    name = name.replace("-", "_")
    names = experiment_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        cure = f"did you mean {near[0]}?" if near else "modeledit --help lists all"
        print(f"error: there is no experiment {name!r}: {cure}", file=sys.stderr)
        sys.exit(2)
    command: Command = importlib.import_module(f"experiments.{name}.__main__").command
    command(options, prog=f"modeledit {name}")
