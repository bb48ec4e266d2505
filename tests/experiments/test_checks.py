"""One check for the values of all options: numbers out of range, not finite, of another type.

Belongs to the kind (inputs that are not the type or size that an option means): NaN and infinities,
integers beyond 64 bits, negative counts, values twice in a list, empty lists, numbers that are
booleans or texts, other choices than those offered; in any option of any command.
"""

import importlib
import re
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Literal, get_type_hints

import numpy as np
import pytest

from experiments.common.checks import (
    MAY_BE_EMPTY,
    Range,
    Seed,
    check_options,
    option_name,
)
from experiments.common.command import Command
from experiments.common.console import experiment_names

COMMANDS = {
    name: command
    for name in experiment_names()
    if isinstance(
        command := importlib.import_module(f"experiments.{name}.__main__").command, Command
    )
}


@dataclass(frozen=True)
class Options:
    """All kinds of options."""

    count: Annotated[int, Range(1, 100, "thing")] = 3
    rate: Annotated[float, Range(0, 2)] = 0.5
    rounds: Annotated[int, Range(1, 9)] | None = None
    seed: Seed = 0
    kind: Literal["one", "other"] = "one"
    names: tuple[str, ...] = ("a",)
    rows: Annotated[tuple[Annotated[int, Range(0, 9)], ...], MAY_BE_EMPTY] = ()
    kinds: tuple[Literal["one", "other"], ...] = ("one",)
    flag: bool = False
    text: str = ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "--count must be at least 1 thing, got 0"),
        ({"count": 10**30}, "--count must be at most 100, got 1000000"),
        ({"count": 2.0}, "--count must be an integer, got 2.0"),
        ({"count": True}, "--count must be an integer, got True"),
        ({"count": None}, "--count must be an integer, got None"),
        ({"rate": float("nan")}, "--rate must be finite, got nan"),
        ({"rate": float("-inf")}, "--rate must be finite, got -inf"),
        ({"rate": 3}, "--rate must be at most 2, got 3"),
        ({"rate": "1"}, "--rate must be a number, got '1'"),
        ({"rounds": 0}, "--rounds must be at least 1, got 0"),
        ({"seed": -1}, "--seed must be at least 0, got -1"),
        ({"seed": 2**32}, "--seed must be at most 4,000,000,000"),
        ({"kind": "third"}, "--kind must be one of one, other, got 'third'"),
        ({"names": ()}, "--names must name at least one"),
        ({"names": ("a", "b", "a")}, "--names names a twice: name it once"),
        ({"names": "a"}, "--names must be a list, got 'a'"),
        ({"rows": (1, 1)}, "--rows names 1 twice"),
        ({"rows": (1, 10)}, "--rows must be at most 9, got 10"),
        ({"kinds": ("one", "third")}, "--kinds must be one of one, other, got 'third'"),
        ({"flag": "yes"}, "--flag must be true or false, got 'yes'"),
        ({"text": 3}, "--text must be a text, got 3"),
    ],
)
def test_a_value_that_an_option_cannot_have(changes, message):
    with pytest.raises(ValueError) as error:
        check_options(Options(**changes))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_all_others_pass():
    check_options(Options())
    check_options(Options(count=np.int64(7), rate=1, rounds=9, seed=4_000_000_000, rows=(0, 9)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_of_every_command_has_a_range(name):
    options = COMMANDS[name].options
    check_options(options())
    hints = get_type_hints(options, include_extras=True)
    for option in fields(options):
        text = str(hints[option.name])
        if re.search(r"\b(int|float)\b", text):
            assert "Range(" in text, f"{option_name(option.name)} of {name} has no range"
        assert option.default is not MISSING


@pytest.mark.parametrize("name", COMMANDS)
def test_every_list_and_number_of_every_command_is_checked(name):
    """Each option in turn, with a value that none can have."""
    options = COMMANDS[name].options
    for option in fields(options):
        default, shown = option.default, option_name(option.name)
        bad = [(default[0], default[0])] if isinstance(default, tuple) and default else []
        if isinstance(default, int | float) and not isinstance(default, bool):
            bad = [10**25, -(10**25), float("nan")]
        for value in bad:
            with pytest.raises(ValueError, match=f"^{shown} "):
                check_options(options(**{option.name: value}))
