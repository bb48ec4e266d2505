"""From the command line to options; what cannot be read is one line and exit code 2.

Light to import, so that ``--help`` and mistakes are instant.
"""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import TypeVar

import tyro

Options = TypeVar("Options")


def read_options(
    kind: type[Options], arguments: Sequence[str] | None, prog: str, description: str | None
) -> Options:
    """Reads the options of a command, or leaves the process with exit code 2.

    Args:
      kind: the dataclass of the options.
      arguments: default: those of the process.
      prog: what the help calls the command.
      description: what the help says first.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    box = io.StringIO()
    try:
        check_arguments(given)
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=given, prog=prog, description=description)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as left:
        if left.code:
            print(f"error: {unboxed(box.getvalue())}: see {prog} --help", file=sys.stderr)
        raise


def check_arguments(arguments: Sequence[str]) -> None:
    """Raises ValueError for an option given twice, of which one would be dropped, or an empty one.

    An empty text is what a script leaves where a variable is not set; as a path it would be the
    current folder.
    """
    seen: set[str] = set()
    option = "the command"
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name.startswith("--"):
            value = argument
        else:
            option = name.replace("_", "-")
            one = option.replace("--no-", "--", 1)
            if one in seen:
                raise ValueError(f"{option} is given twice: give {one} once, with all its values")
            seen.add(one)
        if not value.strip() and (equals or not name.startswith("--")):
            raise ValueError(f"{option} is given an empty text: give a value, or leave it out")


def unboxed(text: str) -> str:
    """The message in a box that tyro draws, as one line; with what was perhaps meant."""
    bare = [line.strip(" │") for line in text.splitlines() if not line.startswith(("╭", "╰"))]
    rows = [line for line in bare if line]
    rules = [place for place, row in enumerate(rows) if not row.strip("─-")]
    if "╭" not in text and rules:  # without box characters the title stands over the message
        rows, rules = rows[2:], [place - 2 for place in rules[1:]]
    end = rules[0] if rules else len(rows)
    message = " ".join(rows[:end]).rstrip(".:")
    if any(row.startswith("Perhaps you meant") for row in rows[end:]):
        meant = [row.split()[0] for row in rows[end:] if row.startswith("--") and row.strip("-")]
        message += f"; perhaps you meant {' or '.join(meant)}"
    return message
