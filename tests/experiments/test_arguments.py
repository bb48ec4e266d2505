"""The command line as it is typed: what cannot be read is one line and exit code 2.

Belongs to the kind: variables of a script that are not set, an option given twice of which one
would be dropped, misspelled options, values of another type, values without an option.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from experiments.common.arguments import read_options, unboxed


@dataclass(frozen=True)
class Options:
    """Options."""

    budget: int = 3
    """Evaluations."""
    run_dir: Path | None = None
    """Folder."""
    methods: tuple[str, ...] = ("a",)
    """Names."""
    resume: bool = False
    """Go on."""


def read(*arguments):
    return read_options(Options, arguments, "command", "What it does.")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--run-dir", ""), ["--run-dir is given an empty text"]),
        (("--run-dir=",), ["--run-dir is given an empty text"]),
        (("--run-dir", "  "), ["--run-dir is given an empty text"]),
        (("--methods", "a", ""), ["--methods is given an empty text"]),
        (("",), ["the command is given an empty text"]),
        (("--budget", "1", "--budget", "2"), ["--budget is given twice"]),
        (("--run-dir=a", "--run_dir", "b"), ["--run-dir is given twice"]),
        (("--resume", "--no-resume"), ["--no-resume is given twice: give --resume once"]),
        (("--budget", "many"), ["--budget", "'many'", "command --help"]),
        (("--budget", "1e3"), ["--budget", "'1e3'"]),
        (("--budget",), ["--budget", "Missing value"]),
        (("--budgt", "3"), ["--budgt", "perhaps you meant --budget"]),
        (("stray",), ["stray"]),
    ],
)
def test_what_cannot_be_read_is_one_line(arguments, parts, capsys):
    with pytest.raises(SystemExit) as left:
        read(*arguments)
    assert left.value.code == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.count("\n") == 1 and found.err.startswith("error: ")
    assert all(part in found.err for part in parts), found.err
    assert not set(found.err) & set("│╭╰─")


def test_what_can_be_read_is(capsys):
    expected = Options(4, Path("a b"), ("x", "y"), True)
    assert read("--budget=4", "--run-dir", "a b", "--methods", "x", "y", "--resume") == expected
    assert read("--methods").methods == ()  # refused by the checks, by name
    with pytest.raises(SystemExit) as left:
        read("--help")
    assert left.value.code == 0 and "Evaluations." in capsys.readouterr().out


@pytest.mark.parametrize(
    "box",
    [
        "╭─ Value error ─╮\n│ Error: a long  │\n│ message. │\n│ ────── │\n│ More │\n╰──╯\n",
        " Value error \n ------ \n  Error: a long \n  message. \n  -------\n  More \n\n",
    ],
    ids=["unicode", "ascii"],
)
def test_the_message_of_a_box(box):
    assert unboxed(box) == "Error: a long message"


def test_what_was_meant_in_a_box():
    box = (
        "╭─ T ─╮\n│ Bad: --a │\n│ ─── │\n│ Perhaps you meant: │\n│  --ab INT │\n│ Help --c. │\n╰─╯"
    )
    assert unboxed(box) == "Bad: --a; perhaps you meant --ab"
